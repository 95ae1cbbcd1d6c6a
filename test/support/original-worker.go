// A worker as the original's generation has them: it dials anew for each reply, gives every call one second, listens
// without removing what stands there, returns its receipt first and answers from a goroutine, and ends where it stands.
package main

import (
	"context"
	"log"
	"net"
	"os"
	"time"

	"example.org/worker/pb"
	"github.com/google/uuid"
	"google.golang.org/grpc"
)

type worker struct {
	pb.UnimplementedWorkerServer
}

// dispatcher calls the agent with a deadline of one second.
func dispatcher(call func(context.Context, pb.DispatcherClient) error) error {
	conn, err := grpc.Dial(os.Getenv("YGG_SOCKET_ADDR"), grpc.WithInsecure())
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return call(ctx, pb.NewDispatcherClient(conn))
}

func (*worker) Send(_ context.Context, request *pb.Data) (*pb.Response, error) {
	go func() {
		err := dispatcher(func(ctx context.Context, agent pb.DispatcherClient) error {
			_, err := agent.Send(ctx, &pb.Data{
				MessageId:  uuid.New().String(),
				ResponseTo: request.GetMessageId(),
				Directive:  request.GetDirective(),
				Metadata:   request.GetMetadata(),
				Content:    request.GetContent(),
			})
			return err
		})
		if err != nil {
			log.Printf("cannot reply: %v", err)
		}
	}()
	return &pb.Response{}, nil
}

func main() {
	var address string
	err := dispatcher(func(ctx context.Context, agent pb.DispatcherClient) error {
		answer, err := agent.Register(ctx, &pb.RegistrationRequest{
			Handler:  "go_echo",
			Pid:      int64(os.Getpid()),
			Features: map[string]string{"version": "0.2"},
		})
		address = answer.GetAddress()
		return err
	})
	if err != nil || address == "" {
		log.Fatalf("not registered: %v", err)
	}
	listener, err := net.Listen("unix", address)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterWorkerServer(server, &worker{})
	log.Fatal(server.Serve(listener))
}
