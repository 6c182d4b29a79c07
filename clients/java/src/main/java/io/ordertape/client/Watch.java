package io.ordertape.client;

import io.grpc.StatusRuntimeException;
import io.ordertape.v1.OrderHistoryGrpc.OrderHistoryBlockingStub;
import io.ordertape.v1.OrderUpdate;
import io.ordertape.v1.WatchOrdersRequest;
import io.ordertape.v1.WatchOrdersResponse;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.function.Supplier;

/** Follows one user's orders, over as many streams as it takes: each update comes exactly once. */
final class Watch implements Supplier<StatusRuntimeException> {
  private final OrderHistoryBlockingStub history;
  private final BlockingQueue<List<OrderUpdate>> batches;
  private final WatchOrdersRequest.Builder request;

  /** Puts the open orders into {@code batches}, then what happens, step by step. */
  Watch(OrderHistoryBlockingStub history, String user, BlockingQueue<List<OrderUpdate>> batches) {
    this.history = history;
    this.batches = batches;
    this.request = WatchOrdersRequest.newBuilder().setUserId(user);
  }

  String position() {
    return request.getAfter();
  }

  /** Opens a stream, after all that was handed on so far, and returns why it ended. */
  @Override
  public StatusRuntimeException get() {
    List<OrderUpdate> batch = new ArrayList<>();
    try {
      Iterator<WatchOrdersResponse> stream = history.watchOrders(request.build());
      while (true) {
        WatchOrdersResponse response = stream.next();
        batch.addAll(response.getSnapshot().getOrdersList());
        batch.addAll(response.getUpdates().getUpdatesList());
        if (response.getPosition().isEmpty()) {
          continue; // The batch goes on. Where a stream ends in it, the next one says it all again.
        }
        request.setAfter(response.getPosition());
        if (!response.hasHeartbeat()) {
          batches.add(batch);
        }
        batch = new ArrayList<>();
      }
    } catch (StatusRuntimeException e) {
      return e;
    }
  }
}
