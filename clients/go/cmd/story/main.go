// Command story lives through an order's life on a running exchange, tells it line by line, and ends at the first thing that is
// not as it must be.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "example.com/ordertape-client/gen/ordertape/v1"
)

const timeout = 5 * time.Minute // of the whole story, with a restart by hand

type story struct {
	engine        pb.MatchingEngineClient
	operator      pb.OperatorClient
	history       pb.OrderHistoryClient
	buyer, seller string
	watch         watch
	number        int64 // user_update_number of the watch's last update
}

func main() {
	log.SetFlags(log.Lshortfile)
	engineAddress := flag.String("engine", "127.0.0.1:50051", "the engine's address, `HOST:PORT`")
	historyAddress := flag.String("history", "127.0.0.1:50052", "the history's address, `HOST:PORT`")
	prefix := flag.String("user", "story", "`PREFIX` of the two users' names, new to the exchange")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	engine, history := dial(*engineAddress), pb.NewOrderHistoryClient(dial(*historyAddress))
	buyer := *prefix + ".buyer"
	s := story{
		engine:   pb.NewMatchingEngineClient(engine),
		operator: pb.NewOperatorClient(engine),
		history:  history,
		buyer:    buyer,
		seller:   *prefix + ".seller",
		watch:    watch{history: history, user: buyer, batches: make(chan []*pb.OrderUpdate, 100), broken: make(chan error, 1)},
	}
	s.trade(ctx)
	s.restart(ctx)
	s.fail(ctx)
	fmt.Println("everything was as it must be")
}

// dial makes a connection whose calls wait for a service that is away.
func dial(address string) *grpc.ClientConn {
	plaintext := grpc.WithTransportCredentials(insecure.NewCredentials())
	return must(grpc.NewClient(address, plaintext, grpc.WithDefaultCallOptions(grpc.WaitForReady(true))))
}

// trade takes an order from its beginning to its end.
func (s *story) trade(ctx context.Context) {
	must(s.operator.Deposit(ctx, &pb.DepositRequest{UserId: s.buyer, Asset: "USD", Amount: "10000", RequestId: "usd"}))
	must(s.operator.Deposit(ctx, &pb.DepositRequest{UserId: s.seller, Asset: "ETH", Amount: "10", RequestId: "eth"}))
	fmt.Println("deposited 10000 USD for", s.buyer, "and 10 ETH for", s.seller)

	go s.watch.run(ctx)
	s.next() // no order is open
	buy := limit(s.buyer, pb.Side_SIDE_BUY, "first", "2")
	placed, again := must(s.engine.PlaceOrder(ctx, buy)), must(s.engine.PlaceOrder(ctx, buy))
	fmt.Println("placed; replayed:", placed.GetReplayed(), "placed again; replayed:", again.GetReplayed())
	check(!placed.GetReplayed() && again.GetReplayed(), "exactly the second answer had to be replayed")
	check(again.GetUpdates()[0].GetOrderId() == placed.GetUpdates()[0].GetOrderId(), "it had to be the same order")
	s.next(pb.ExecType_EXEC_TYPE_NEW)

	must(s.engine.PlaceOrder(ctx, limit(s.seller, pb.Side_SIDE_SELL, "first", "0.5")))
	fill := s.next(pb.ExecType_EXEC_TYPE_TRADE)[0]
	fmt.Println("filled", fill.GetFilledQty(), "at", fill.GetFill().GetPrice(), "with", fill.GetLeavesQty(), "left")
	check(fill.GetFilledQty() == "0.5" && fill.GetLeavesQty() == "1.5", "0.5 had to be filled and 1.5 left")

	replace := &pb.ReplaceOrderRequest{UserId: s.buyer, RequestId: new("replace"), Price: new("2400")}
	replace.Order = &pb.ReplaceOrderRequest_ClientOrderId{ClientOrderId: "first"}
	must(s.engine.ReplaceOrder(ctx, replace))
	s.next(pb.ExecType_EXEC_TYPE_REPLACED)
	cancel := &pb.CancelOrderRequest{UserId: s.buyer, RequestId: new("cancel")}
	cancel.Order = &pb.CancelOrderRequest_ClientOrderId{ClientOrderId: "first"}
	cancelled := must(s.engine.CancelOrder(ctx, cancel))
	s.next(pb.ExecType_EXEC_TYPE_CANCELLED)

	list := &pb.ListOrderUpdatesRequest{UserId: s.buyer, PageSize: 3, AtLeast: cancelled.GetPosition()}
	list.Order = &pb.ListOrderUpdatesRequest_ClientOrderId{ClientOrderId: "first"}
	var timeline []string
	for more := true; more; more = list.PageToken != "" {
		page := must(s.history.ListOrderUpdates(ctx, list))
		for _, update := range page.GetUpdates() {
			timeline = append(timeline, update.GetExecType().String())
		}
		list.PageToken = page.GetNextPageToken()
	}
	fmt.Println("timeline:", timeline)
	whole := []string{"EXEC_TYPE_NEW", "EXEC_TYPE_TRADE", "EXEC_TYPE_REPLACED", "EXEC_TYPE_CANCELLED"}
	check(slices.Equal(timeline, whole), "it had to be ", whole)
}

// restart resumes the watch after a restart of the history; orders come before and after that.
func (s *story) restart(ctx context.Context) {
	fmt.Println("restart history")
	err := <-s.watch.broken
	fmt.Println("the watch ended:", err)
	check(status.Code(err) == codes.Unavailable, "it had to end with Unavailable")
	must(s.engine.PlaceOrder(ctx, limit(s.buyer, pb.Side_SIDE_BUY, "meanwhile", "1")))
	must(bufio.NewReader(os.Stdin).ReadString('\n'))

	fmt.Println("resuming after", *s.watch.position)
	go s.watch.run(ctx)
	s.next(pb.ExecType_EXEC_TYPE_NEW)
	must(s.engine.PlaceOrder(ctx, limit(s.buyer, pb.Side_SIDE_BUY, "afterwards", "1")))
	s.next(pb.ExecType_EXEC_TYPE_NEW)
	must(s.engine.CancelOrders(ctx, &pb.CancelOrdersRequest{UserId: s.buyer}))
	s.next(pb.ExecType_EXEC_TYPE_CANCELLED, pb.ExecType_EXEC_TYPE_CANCELLED)
}

// fail makes three calls that have to be refused and reads why they were.
func (s *story) fail(ctx context.Context) {
	_, err := s.engine.PlaceOrder(ctx, limit(s.buyer, pb.Side_SIDE_BUY, "two words", "1e3"))
	fields := refused(err, codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_REQUEST)
	check(slices.Equal(fields, []string{"client_order_id", "qty"}), "both bad fields had to be named, not ", fields)
	get := &pb.GetOrderRequest{UserId: s.buyer, Order: &pb.GetOrderRequest_ClientOrderId{ClientOrderId: "unknown"}}
	_, err = s.history.GetOrder(ctx, get)
	refused(err, codes.NotFound, pb.ErrorReason_ERROR_REASON_ORDER_NOT_FOUND)
	_, err = s.engine.PlaceOrder(ctx, limit(s.buyer, pb.Side_SIDE_BUY, "first", "3"))
	refused(err, codes.AlreadyExists, pb.ErrorReason_ERROR_REASON_KEY_REUSED)
}

// refused checks the code and reason of err, and returns the fields that it calls bad.
func refused(err error, code codes.Code, reason pb.ErrorReason) (fields []string) {
	var info *errdetails.ErrorInfo
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			info = detail
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				fields = append(fields, violation.GetField())
			}
		}
	}
	fmt.Println("refused:", err)
	check(status.Code(err) == code, "the code had to be ", code)
	check(info.GetDomain() == "ordertape" && "ERROR_REASON_"+info.GetReason() == reason.String(), "the reason had to be ", reason)
	return fields
}

// next returns the watch's next batch, which has to be of these updates with the next numbers.
func (s *story) next(execTypes ...pb.ExecType) []*pb.OrderUpdate {
	select {
	case batch := <-s.watch.batches:
		check(len(batch) == len(execTypes), len(execTypes), " updates had to come, not ", batch)
		for i, update := range batch {
			s.number++
			fmt.Println("watch:", update.GetUserUpdateNumber(), update.GetClientOrderId(), update.GetExecType(), update.GetStatus())
			check(update.GetUserUpdateNumber() == s.number, "it had to be update ", s.number)
			check(update.GetExecType() == execTypes[i], "it had to be ", execTypes[i])
		}
		return batch
	case err := <-s.watch.broken:
		check(false, "the watch ended: ", err)
		return nil
	}
}

func limit(user string, side pb.Side, clientOrderID, qty string) *pb.PlaceOrderRequest {
	return &pb.PlaceOrderRequest{
		UserId:        user,
		ClientOrderId: &clientOrderID,
		Symbol:        "ETH-USD",
		Side:          side,
		OrderType:     pb.OrderType_ORDER_TYPE_LIMIT,
		Price:         new("2500"),
		Qty:           &qty,
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Output(2, err.Error())
		os.Exit(1)
	}
	return value
}

func check(ok bool, otherwise ...any) {
	if !ok {
		log.Output(2, fmt.Sprint(otherwise...))
		os.Exit(1)
	}
}
