"""The wire: gRPC services over the use cases. The only room, with app, that knows grpc and the generated code."""
