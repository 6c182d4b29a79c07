// Lives through one order's life on a running exchange, tells it line by line, and checks each step.

import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { BadRequestSchema, ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { ErrorReason } from "./gen/ordertape/v1/error_reason_pb.js";
import { MatchingEngine, Operator } from "./gen/ordertape/v1/matching_engine_pb.js";
import { OrderHistory } from "./gen/ordertape/v1/order_history_pb.js";
import { ExecType, OrderStatus, OrderType, Side } from "./gen/ordertape/v1/order_pb.js";
import { watchOrders } from "./watch.js";

const { values: args } = parseArgs({
  options: {
    engine: { type: "string", default: "127.0.0.1:50051" },
    history: { type: "string", default: "127.0.0.1:50052" },
    user: { type: "string", default: "story" },
  },
});
const buyer = `${args.user}.buyer`;
const seller = `${args.user}.seller`;
const engineTransport = connect(args.engine);
const engine = createClient(MatchingEngine, engineTransport);
const operator = createClient(Operator, engineTransport);
const history = createClient(OrderHistory, connect(args.history));

const watching = new AbortController();
const news = watchOrders(history, buyer, watching.signal).getReader();
let updateNumber = 0n; // userUpdateNumber of the last update that the watch brought

try {
  await deposit(buyer, "USD", "10000");
  await deposit(seller, "ETH", "10");
  await placeAndFill();
  await replaceAndCancel();
  await restartHistory();
  await provokeErrors();
  console.log("everything was as it must be");
} catch (error) {
  console.error(`story: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
} finally {
  watching.abort();
}

function connect(address: string) {
  // Each call, and so the story, ends after some minutes; a restart by hand is in it.
  return createGrpcTransport({ baseUrl: `http://${address}`, defaultTimeoutMs: 300_000 });
}

async function deposit(userId: string, asset: string, amount: string) {
  const { balance } = await operator.deposit({ userId, asset, amount, requestId: "deposit" });
  console.log(`${userId} has ${balance?.available} ${asset}`);
}

/** A limit order of the buyer. */
function limit(clientOrderId: string, qty: string) {
  const kind = { symbol: "ETH-USD", side: Side.BUY, orderType: OrderType.LIMIT };
  return { ...kind, userId: buyer, clientOrderId, price: "2500", qty };
}

async function placeAndFill() {
  assert((await nextNews()).kind === "began", "the watch did not begin");
  const first = await engine.placeOrder(limit("first", "2"));
  assert(!first.replayed, `${buyer} is not new`);
  const again = await engine.placeOrder(limit("first", "2"));
  assert.deepEqual(again, { ...first, replayed: true });
  console.log("placed an order twice, and it is there once");
  await nextUpdate(ExecType.NEW);

  await engine.placeOrder({ ...limit("sell", "0.5"), userId: seller, side: Side.SELL });
  const { filledQty, leavesQty } = await nextUpdate(ExecType.TRADE);
  assert.deepEqual({ filledQty, leavesQty }, { filledQty: "0.5", leavesQty: "1.5" });
}

async function replaceAndCancel() {
  const first = { userId: buyer, order: { case: "clientOrderId", value: "first" } } as const;
  await engine.replaceOrder({ ...first, requestId: "replace", price: "2400" });
  await nextUpdate(ExecType.REPLACED);
  const { position } = await engine.cancelOrder({ ...first, requestId: "cancel" });
  await nextUpdate(ExecType.CANCELLED);

  const timeline: (string | undefined)[] = [];
  let pageToken = "";
  do {
    const page = await history.listOrderUpdates({ ...first, pageSize: 3, pageToken, atLeast: position });
    timeline.push(...page.updates.map((update) => ExecType[update.execType]));
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  console.log(`timeline: ${timeline.join(", ")}`);
  assert.deepEqual(timeline, ["NEW", "TRADE", "REPLACED", "CANCELLED"]);
}

async function restartHistory() {
  console.log("restart history");
  const broken = await nextNews();
  assert(broken.kind === "broken", "the watch did not break");
  console.log(`the watch broke: ${broken.error.message}`);
  await engine.placeOrder(limit("meanwhile", "1"));
  const lines = createInterface({ input: process.stdin });
  const answer = await lines[Symbol.asyncIterator]().next();
  lines.close();
  assert(!answer.done, "nobody said on standard input that the history was restarted");
  await nextUpdate(ExecType.NEW);
  await engine.placeOrder(limit("afterwards", "1"));
  await nextUpdate(ExecType.NEW);
  await engine.cancelOrders({ userId: buyer });
  await nextUpdate(ExecType.CANCELLED);
  await nextUpdate(ExecType.CANCELLED);
}

async function provokeErrors() {
  const bad = engine.placeOrder({ ...limit("bad", "1e3"), price: "-1" });
  const error = await refusal(bad, Code.InvalidArgument, ErrorReason.INVALID_REQUEST);
  const violations = error.findDetails(BadRequestSchema).flatMap((detail) => detail.fieldViolations);
  const fields = violations.map((violation) => violation.field);
  assert.deepEqual(fields, ["price", "qty"]);

  const unknown = history.getOrder({ userId: buyer, order: { case: "clientOrderId", value: "unknown" } });
  await refusal(unknown, Code.NotFound, ErrorReason.ORDER_NOT_FOUND);
  const reused = engine.placeOrder(limit("first", "3"));
  await refusal(reused, Code.AlreadyExists, ErrorReason.KEY_REUSED);
}

/** The error of a call that must be refused like this. */
async function refusal(call: Promise<unknown>, code: Code, reason: ErrorReason) {
  const error = await call.then(() => assert.fail("a call that must be refused was not"), ConnectError.from);
  console.log(`refused: ${error.message}`);
  assert.equal(Code[error.code], Code[code]);
  const [info] = error.findDetails(ErrorInfoSchema);
  assert.equal(info?.domain, "ordertape");
  assert.equal(info.reason, ErrorReason[reason]);
  return error;
}

async function nextNews() {
  const { done, value } = await news.read();
  assert(!done, "the watch ended");
  return value;
}

/** The watch's next update; it must be of this type and have the next number. */
async function nextUpdate(execType: ExecType) {
  let next = await nextNews();
  while (next.kind === "broken") next = await nextNews();
  assert(next.kind === "update", "the watch began anew");
  const { update } = next;
  const [execTypeName, status] = [ExecType[update.execType], OrderStatus[update.status]];
  console.log(`watch: update ${update.userUpdateNumber}: order ${update.orderId}: ${execTypeName}, ${status}`);
  assert.equal(update.userUpdateNumber, ++updateNumber);
  assert.equal(execTypeName, ExecType[execType]);
  return update;
}
