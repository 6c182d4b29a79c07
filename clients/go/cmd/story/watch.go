package main

import (
	"context"

	pb "example.com/ordertape-client/gen/ordertape/v1"
)

// A watch follows one user's orders, over as many streams as it takes: each update comes exactly once.
type watch struct {
	history  pb.OrderHistoryClient
	user     string
	position *string                // where to resume: all up to it was handed on
	batches  chan []*pb.OrderUpdate // the open orders, then what happened, step by step
	broken   chan error             // why a stream ended
}

// run opens a stream, after the position where there is one, and hands on what it says until it ends.
func (w *watch) run(ctx context.Context) {
	stream, err := w.history.WatchOrders(ctx, &pb.WatchOrdersRequest{UserId: w.user, After: w.position})
	var response *pb.WatchOrdersResponse
	for batch := []*pb.OrderUpdate(nil); err == nil; {
		if response, err = stream.Recv(); err != nil {
			break
		}
		batch = append(batch, response.GetSnapshot().GetOrders()...)
		batch = append(batch, response.GetUpdates().GetUpdates()...)
		if response.GetPosition() == "" {
			continue // The batch goes on. Where a stream ends in it, the next one says all of it again.
		}
		w.position = &response.Position
		if response.GetHeartbeat() == nil {
			w.batches <- batch
		}
		batch = nil
	}
	w.broken <- err
}
