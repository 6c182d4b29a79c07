#!/usr/bin/env bash
# The life of orders as a stranger sees it, with nothing of ours on the caller's side: starts both services, talks to them with
# grpcurl (where it is installed) or `buf curl` by reflection alone, and fails on the first answer that is not what it must be.
set -euo pipefail
. "$(dirname "$0")/environment"

work="$(mktemp -d)"
pids=()
finish() {
    code=$?
    [ "$code" = 0 ] || { echo "FAILED; the last lines of the services' logs:" >&2; tail -n 15 "$work"/*.log >&2 || true; }
    for pid in "${pids[@]}"; do kill "$pid" 2> /dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2> /dev/null || true; done
    rm -rf "$work"
    exit "$code"
}
trap finish EXIT

# start NAME MODULE ARGUMENTS...: runs the service and waits until it serves; its ready file says where.
start() {
    local name="$1" module="$2"
    shift 2
    python -m "$module" --data-dir "$work/$name" --listen 127.0.0.1:0 --ready-file "$work/$name.json" "$@" > "$work/$name.log" 2>&1 &
    pids+=("$!")
    until [ -e "$work/$name.json" ]; do
        kill -0 "${pids[-1]}" 2> /dev/null || { echo "the $name ended before it served" >&2; exit 1; }
        sleep 0.05
    done
}

# get PATH: the value at a path such as orders.0.status in the JSON on stdin, empty where there is none.
get() {
    python -c '
import json, sys
value = json.load(sys.stdin)
for key in sys.argv[1].split("."):
    value = value[int(key)] if isinstance(value, list) and int(key) < len(value) else value.get(key) if isinstance(value, dict) else None
print("" if value is None else value if isinstance(value, str) else json.dumps(value))' "$1"
}

# count KEY: how many there are in the list under KEY.
count() { get "$1" | python -c 'import json, sys; print(len(json.loads(sys.stdin.read().strip() or "[]")))'; }

# call ADDRESS SERVICE/METHOD JSON: the answer as JSON.
call() {
    if command -v grpcurl > /dev/null; then
        grpcurl -plaintext -d "$3" "$1" "ordertape.v1.$2"
    else
        buf curl --http2-prior-knowledge --protocol grpc -d "$3" "http://$1/ordertape.v1.$2"
    fi
}

# must WHAT ACTUAL EXPECTED
must() {
    if [ "$2" = "$3" ]; then
        echo "  ok    $1: $2"
    else
        echo "  WRONG $1: $2, must be $3" >&2
        exit 1
    fi
}

step() { echo; echo "$1"; }

step "start both services"
start engine services.matching_engine --feed history=tcp://127.0.0.1:0 --config services/cli/exchange.toml
engine="$(get address < "$work/engine.json")"
start history services.order_history --engine-address "$engine" --engine-feed "$(get feeds.history < "$work/engine.json")"
history="$(get address < "$work/history.json")"
echo "  engine $engine, history $history, called with $(command -v grpcurl || command -v buf)"

step "alice and bob bring money"
answer="$(call "$engine" Operator/Deposit '{"userId":"alice","asset":"USD","amount":"1000","requestId":"e2e-1"}')"
must "alice's available USD" "$(get balance.available <<< "$answer")" 1000
answer="$(call "$engine" Operator/Deposit '{"userId":"bob","asset":"BTC","amount":"2","requestId":"e2e-1"}')"
must "bob's available BTC" "$(get balance.available <<< "$answer")" 2

step "alice places an order: it is open"
answer="$(call "$engine" MatchingEngine/PlaceOrder '{"userId":"alice","clientOrderId":"first","symbol":"BTC-USD","side":"SIDE_BUY","orderType":"ORDER_TYPE_LIMIT","price":"100","qty":"1"}')"
must "status" "$(get updates.0.status <<< "$answer")" ORDER_STATUS_NEW
order_id="$(get updates.0.orderId <<< "$answer")"
at="$(get position <<< "$answer")"
answer="$(call "$history" OrderHistory/ListActiveOrders "{\"userId\":\"alice\",\"atLeast\":\"$at\"}")"
must "open orders" "$(count orders <<< "$answer")" 1
must "open order's id" "$(get orders.0.orderId <<< "$answer")" "$order_id"
must "open order's status" "$(get orders.0.status <<< "$answer")" ORDER_STATUS_NEW
must "open order's leaves" "$(get orders.0.leavesQty <<< "$answer")" 1

step "alice cancels it: it is history"
answer="$(call "$engine" MatchingEngine/CancelOrder "{\"userId\":\"alice\",\"requestId\":\"e2e-2\",\"orderId\":\"$order_id\"}")"
must "status" "$(get updates.0.status <<< "$answer")" ORDER_STATUS_CANCELLED
at="$(get position <<< "$answer")"
answer="$(call "$history" OrderHistory/ListActiveOrders "{\"userId\":\"alice\",\"atLeast\":\"$at\"}")"
must "open orders" "$(count orders <<< "$answer")" 0
answer="$(call "$history" OrderHistory/ListOrderHistory "{\"userId\":\"alice\",\"atLeast\":\"$at\"}")"
must "orders in the history" "$(count orders <<< "$answer")" 1
must "its status there" "$(get orders.0.status <<< "$answer")" ORDER_STATUS_CANCELLED
must "its reason" "$(get orders.0.cancelReason <<< "$answer")" CANCEL_REASON_USER
answer="$(call "$history" OrderHistory/ListOrderUpdates '{"userId":"alice","clientOrderId":"first"}')"
must "first step of its life" "$(get updates.0.execType <<< "$answer")" EXEC_TYPE_NEW
must "last step of its life" "$(get updates.1.execType <<< "$answer")" EXEC_TYPE_CANCELLED

step "bob sells and alice buys: both are filled"
call "$engine" MatchingEngine/PlaceOrder '{"userId":"bob","clientOrderId":"ask","symbol":"BTC-USD","side":"SIDE_SELL","orderType":"ORDER_TYPE_LIMIT","price":"100","qty":"0.5"}' > "$work/ask"
must "bob's status" "$(get updates.0.status < "$work/ask")" ORDER_STATUS_NEW
answer="$(call "$engine" MatchingEngine/PlaceOrder '{"userId":"alice","clientOrderId":"bid","symbol":"BTC-USD","side":"SIDE_BUY","orderType":"ORDER_TYPE_LIMIT","price":"101","qty":"0.5"}')"
must "alice's first status" "$(get updates.0.status <<< "$answer")" ORDER_STATUS_NEW
must "alice's last status" "$(get updates.1.status <<< "$answer")" ORDER_STATUS_FILLED
must "traded at the resting price" "$(get updates.1.fill.price <<< "$answer")" 100
at="$(get position <<< "$answer")"
for user in alice bob; do
    answer="$(call "$history" OrderHistory/ListActiveOrders "{\"userId\":\"$user\",\"atLeast\":\"$at\"}")"
    must "$user's open orders" "$(count orders <<< "$answer")" 0
    answer="$(call "$history" OrderHistory/ListOrderHistory "{\"userId\":\"$user\",\"atLeast\":\"$at\",\"statuses\":[\"ORDER_STATUS_FILLED\"]}")"
    must "$user's filled orders" "$(count orders <<< "$answer")" 1
    must "filled" "$(get orders.0.filledQty <<< "$answer")" 0.5
    answer="$(call "$history" OrderHistory/ListFills "{\"userId\":\"$user\",\"atLeast\":\"$at\"}")"
    must "$user's fills" "$(count fills <<< "$answer")" 1
    must "trade" "$(get fills.0.fill.tradeId <<< "$answer")" 1
    must "paid in all" "$(get fills.0.fill.quote <<< "$answer")" 50
done
answer="$(call "$engine" Accounts/ListBalances '{"userId":"alice"}')"
must "alice has USD" "$(get balances.1.available <<< "$answer")" 950
must "alice has BTC, less the fee of 0.2 %" "$(get balances.0.available <<< "$answer")" 0.499

step "alice wants more than she can pay: rejected, and that is history too"
answer="$(call "$engine" MatchingEngine/PlaceOrder '{"userId":"alice","clientOrderId":"dear","symbol":"BTC-USD","side":"SIDE_BUY","orderType":"ORDER_TYPE_LIMIT","price":"1000","qty":"1"}')"
must "status" "$(get updates.0.status <<< "$answer")" ORDER_STATUS_REJECTED
must "reason" "$(get updates.0.rejectReason <<< "$answer")" REJECT_REASON_INSUFFICIENT_FUNDS
at="$(get position <<< "$answer")"
answer="$(call "$history" OrderHistory/ListActiveOrders "{\"userId\":\"alice\",\"atLeast\":\"$at\"}")"
must "open orders" "$(count orders <<< "$answer")" 0
answer="$(call "$history" OrderHistory/GetOrder "{\"userId\":\"alice\",\"clientOrderId\":\"dear\",\"atLeast\":\"$at\"}")"
must "status in the history" "$(get order.status <<< "$answer")" ORDER_STATUS_REJECTED
must "reason in the history" "$(get order.rejectReason <<< "$answer")" REJECT_REASON_INSUFFICIENT_FUNDS

step "another user sees none of it"
call "$history" OrderHistory/GetOrder '{"userId":"bob","clientOrderId":"dear"}' > "$work/stranger" 2>&1 && code=0 || code=$?
must "bob's call fails" "$([ "$code" != 0 ] && echo yes)" yes
must "its code" "$(grep -o -i -m 1 -e not_found -e notfound "$work/stranger" | tr -d _ | tr '[:upper:]' '[:lower:]')" notfound

step "both services end when they are asked to"
for pid in "${pids[@]}"; do
    kill "$pid"
    wait "$pid" && code=0 || code=$?
    must "exit code" "$code" 0
done
pids=()

echo
echo "all as it must be"
