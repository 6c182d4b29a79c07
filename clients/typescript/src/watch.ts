// A watch of one user's orders that is resumed wherever it broke off.

import { ReadableStream } from "node:stream/web";
import { setTimeout as sleep } from "node:timers/promises";
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import type { OrderHistory } from "./gen/ordertape/v1/order_history_pb.js";
import type { OrderUpdate } from "./gen/ordertape/v1/order_pb.js";

const RETRY_DELAY_MS = 500;

/** The history was away or cut off a slow reader; connect-node says Canceled or Aborted where a connection broke. */
const TRANSIENT = [Code.Unavailable, Code.ResourceExhausted, Code.Canceled, Code.Aborted];

export type News =
  /** The watch stands; what was open then comes next. */
  | { kind: "began" }
  /** An order as it is now. Each update comes once, in the ledger's order. */
  | { kind: "update"; update: OrderUpdate }
  /** The stream broke and is being resumed. */
  | { kind: "broken"; error: ConnectError };

/** Follows the user's orders in the background, whether or not anybody reads, until it is aborted. */
export function watchOrders(history: Client<typeof OrderHistory>, userId: string, signal: AbortSignal) {
  return new ReadableStream<News>({
    async start(controller) {
      for await (const news of follow(history, userId, signal)) controller.enqueue(news);
      controller.close();
    },
  });
}

async function* follow(
  history: Client<typeof OrderHistory>,
  userId: string,
  signal: AbortSignal,
): AsyncGenerator<News> {
  let after: string | undefined;
  for (;;) {
    try {
      let updates: OrderUpdate[] = [];
      for await (const { position, event } of history.watchOrders({ userId, after }, { signal })) {
        if (event.case === "snapshot") updates.push(...event.value.orders);
        if (event.case === "updates") updates.push(...event.value.updates);
        // Without a position more of the same batch follows; if the stream breaks before its end, all of it comes again.
        if (position === "") continue;
        if (after === undefined) yield { kind: "began" };
        for (const update of updates) yield { kind: "update", update };
        after = position;
        updates = [];
      }
      return;
    } catch (reason) {
      const error = ConnectError.from(reason);
      if (signal.aborted || !TRANSIENT.includes(error.code)) throw error;
      yield { kind: "broken", error };
      await sleep(RETRY_DELAY_MS);
    }
  }
}
