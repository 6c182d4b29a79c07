package io.ordertape.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.BadRequest.FieldViolation;
import com.google.rpc.ErrorInfo;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.AbstractStub;
import io.ordertape.v1.CancelOrderRequest;
import io.ordertape.v1.CancelOrdersRequest;
import io.ordertape.v1.DepositRequest;
import io.ordertape.v1.ErrorReason;
import io.ordertape.v1.ExecType;
import io.ordertape.v1.GetOrderRequest;
import io.ordertape.v1.ListOrderUpdatesRequest;
import io.ordertape.v1.ListOrderUpdatesResponse;
import io.ordertape.v1.MatchingEngineGrpc;
import io.ordertape.v1.MatchingEngineGrpc.MatchingEngineBlockingStub;
import io.ordertape.v1.OperatorGrpc;
import io.ordertape.v1.OperatorGrpc.OperatorBlockingStub;
import io.ordertape.v1.OrderHistoryGrpc;
import io.ordertape.v1.OrderHistoryGrpc.OrderHistoryBlockingStub;
import io.ordertape.v1.OrderType;
import io.ordertape.v1.OrderUpdate;
import io.ordertape.v1.PlaceOrderRequest;
import io.ordertape.v1.ReplaceOrderRequest;
import io.ordertape.v1.Side;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Scanner;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/**
 * Lives through an order's life on a running exchange, tells it line by line, and ends at the first
 * thing that is not as it must be.
 */
public final class Story {
  private static final int TIMEOUT_MINUTES = 5; // of the whole story, with a restart by hand
  private static final int WATCH_TIMEOUT_SECONDS = 60;

  private final MatchingEngineBlockingStub engine;
  private final OperatorBlockingStub operator;
  private final OrderHistoryBlockingStub history;
  private final String buyer;
  private final String seller;
  private final BlockingQueue<List<OrderUpdate>> batches = new LinkedBlockingQueue<>();
  private final Watch watch;
  private CompletableFuture<StatusRuntimeException> watching;
  private long number; // user_update_number of the watch's last update

  private Story(ManagedChannel engineChannel, ManagedChannel historyChannel, String prefix) {
    engine = waiting(MatchingEngineGrpc.newBlockingStub(engineChannel));
    operator = waiting(OperatorGrpc.newBlockingStub(engineChannel));
    history = waiting(OrderHistoryGrpc.newBlockingStub(historyChannel));
    buyer = prefix + ".buyer";
    seller = prefix + ".seller";
    watch = new Watch(history, buyer, batches);
  }

  /** The stub, its calls waiting for a service that is away, but not longer than a story takes. */
  private static <S extends AbstractStub<S>> S waiting(S stub) {
    return stub.withWaitForReady().withDeadlineAfter(TIMEOUT_MINUTES, TimeUnit.MINUTES);
  }

  public static void main(String[] args) throws Exception {
    if (args.length != 6) {
      System.err.println("usage: Story --engine HOST:PORT --history HOST:PORT --user PREFIX");
      System.exit(2);
    }
    Map<String, String> options = Map.of(args[0], args[1], args[2], args[3], args[4], args[5]);
    var plaintext = InsecureChannelCredentials.create();
    ManagedChannel engine = Grpc.newChannelBuilder(options.get("--engine"), plaintext).build();
    ManagedChannel history = Grpc.newChannelBuilder(options.get("--history"), plaintext).build();
    try {
      Story story = new Story(engine, history, options.get("--user"));
      story.trade();
      story.restart();
      story.fail();
      System.out.println("everything was as it must be");
    } finally {
      engine.shutdownNow();
      history.shutdownNow();
    }
  }

  /** Takes an order from its beginning to its end. */
  private void trade() throws InterruptedException {
    DepositRequest.Builder deposit = DepositRequest.newBuilder().setRequestId("deposit");
    operator.deposit(deposit.setUserId(buyer).setAsset("USD").setAmount("10000").build());
    operator.deposit(deposit.setUserId(seller).setAsset("ETH").setAmount("10").build());
    System.out.printf("deposited 10000 USD for %s and 10 ETH for %s%n", buyer, seller);

    watching = CompletableFuture.supplyAsync(watch);
    next(); // no order is open
    PlaceOrderRequest buy = limit(buyer, Side.SIDE_BUY, "first", "2");
    var placed = engine.placeOrder(buy);
    var again = engine.placeOrder(buy);
    System.out.printf(
        "placed; replayed: %s; placed again; replayed: %s%n",
        placed.getReplayed(), again.getReplayed());
    check(!placed.getReplayed() && again.getReplayed(), "only the second answer is a replayed one");
    check(again.getUpdatesList().equals(placed.getUpdatesList()), "both answers are the same");
    next(ExecType.EXEC_TYPE_NEW);

    engine.placeOrder(limit(seller, Side.SIDE_SELL, "first", "0.5"));
    OrderUpdate fill = next(ExecType.EXEC_TYPE_TRADE).get(0);
    System.out.printf("filled %s, %s left%n", fill.getFilledQty(), fill.getLeavesQty());
    check(fill.getFilledQty().equals("0.5") && fill.getLeavesQty().equals("1.5"), "0.5 is filled");

    var replace = ReplaceOrderRequest.newBuilder().setUserId(buyer).setClientOrderId("first");
    engine.replaceOrder(replace.setRequestId("replace").setPrice("2400").build());
    next(ExecType.EXEC_TYPE_REPLACED);
    var cancel = CancelOrderRequest.newBuilder().setUserId(buyer).setClientOrderId("first");
    var cancelled = engine.cancelOrder(cancel.setRequestId("cancel").build());
    next(ExecType.EXEC_TYPE_CANCELLED);

    var list = ListOrderUpdatesRequest.newBuilder().setUserId(buyer).setClientOrderId("first");
    list.setPageSize(3).setAtLeast(cancelled.getPosition());
    List<ExecType> timeline = new ArrayList<>();
    do {
      ListOrderUpdatesResponse page = history.listOrderUpdates(list.build());
      page.getUpdatesList().forEach(update -> timeline.add(update.getExecType()));
      list.setPageToken(page.getNextPageToken());
    } while (!list.getPageToken().isEmpty());
    System.out.println("timeline: " + timeline);
    check(
        timeline.equals(
            List.of(
                ExecType.EXEC_TYPE_NEW,
                ExecType.EXEC_TYPE_TRADE,
                ExecType.EXEC_TYPE_REPLACED,
                ExecType.EXEC_TYPE_CANCELLED)),
        "the timeline is the whole of it");
  }

  /** Resumes the watch after a restart of the history; orders come before and after that. */
  private void restart() throws InterruptedException {
    System.out.println("restart history");
    StatusRuntimeException end = watching.join();
    System.out.println("the watch ended: " + end.getMessage());
    check(end.getStatus().getCode() == Code.UNAVAILABLE, "it ends with UNAVAILABLE");
    engine.placeOrder(limit(buyer, Side.SIDE_BUY, "meanwhile", "1"));
    new Scanner(System.in).nextLine();

    System.out.println("resuming after " + watch.position());
    watching = CompletableFuture.supplyAsync(watch);
    next(ExecType.EXEC_TYPE_NEW);
    engine.placeOrder(limit(buyer, Side.SIDE_BUY, "afterwards", "1"));
    next(ExecType.EXEC_TYPE_NEW);
    engine.cancelOrders(CancelOrdersRequest.newBuilder().setUserId(buyer).build());
    next(ExecType.EXEC_TYPE_CANCELLED, ExecType.EXEC_TYPE_CANCELLED);
  }

  /** Makes three calls that have to be refused and reads why they were. */
  private void fail() throws InvalidProtocolBufferException {
    List<String> fields =
        refused(
            () -> engine.placeOrder(limit(buyer, Side.SIDE_BUY, "two words", "1e3")),
            Code.INVALID_ARGUMENT,
            ErrorReason.ERROR_REASON_INVALID_REQUEST);
    check(fields.equals(List.of("client_order_id", "qty")), "all bad fields are named");
    var get = GetOrderRequest.newBuilder().setUserId(buyer).setClientOrderId("unknown").build();
    refused(() -> history.getOrder(get), Code.NOT_FOUND, ErrorReason.ERROR_REASON_ORDER_NOT_FOUND);
    refused(
        () -> engine.placeOrder(limit(buyer, Side.SIDE_BUY, "first", "3")),
        Code.ALREADY_EXISTS,
        ErrorReason.ERROR_REASON_KEY_REUSED);
  }

  /** Makes the call, checks why it is refused, and returns the fields that are said to be bad. */
  private static List<String> refused(Runnable call, Code code, ErrorReason reason)
      throws InvalidProtocolBufferException {
    try {
      call.run();
    } catch (StatusRuntimeException e) {
      System.out.println("refused: " + e.getMessage());
      ErrorInfo info = ErrorInfo.getDefaultInstance();
      BadRequest violations = BadRequest.getDefaultInstance();
      for (Any detail : StatusProto.fromThrowable(e).getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          info = detail.unpack(ErrorInfo.class);
        } else if (detail.is(BadRequest.class)) {
          violations = detail.unpack(BadRequest.class);
        }
      }
      check(e.getStatus().getCode() == code, "the code is " + code);
      check(info.getDomain().equals("ordertape"), "the domain is ordertape");
      check(("ERROR_REASON_" + info.getReason()).equals(reason.name()), "the reason is " + reason);
      return violations.getFieldViolationsList().stream().map(FieldViolation::getField).toList();
    }
    throw new IllegalStateException("not as it must be: the call is refused with " + reason);
  }

  /** The watch's next batch, which has to be of these updates with the next numbers. */
  private List<OrderUpdate> next(ExecType... execTypes) throws InterruptedException {
    List<OrderUpdate> batch = batches.poll(WATCH_TIMEOUT_SECONDS, TimeUnit.SECONDS);
    check(batch != null, "the watch goes on; it ended with " + watching.getNow(null));
    for (OrderUpdate update : batch) {
      number++;
      System.out.printf(
          "watch: %d %s %s %s%n",
          update.getUserUpdateNumber(),
          update.getClientOrderId(),
          update.getExecType(),
          update.getStatus());
      check(update.getUserUpdateNumber() == number, "it is update " + number);
    }
    check(
        batch.stream().map(OrderUpdate::getExecType).toList().equals(List.of(execTypes)),
        "these come: " + List.of(execTypes));
    return batch;
  }

  private static PlaceOrderRequest limit(String user, Side side, String clientOrderId, String qty) {
    return PlaceOrderRequest.newBuilder()
        .setUserId(user)
        .setClientOrderId(clientOrderId)
        .setSymbol("ETH-USD")
        .setSide(side)
        .setOrderType(OrderType.ORDER_TYPE_LIMIT)
        .setPrice("2500")
        .setQty(qty)
        .build();
  }

  private static void check(boolean holds, String rule) {
    if (!holds) {
      throw new IllegalStateException("not as it must be: " + rule);
    }
  }
}
