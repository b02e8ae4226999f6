"""A streamed chat over gRPC, in a page: `DRAGOMAN_API_KEY=... python examples/grpc_chat.py "Hello"`.

Needs grpcio, protobuf, googleapis-common-protos, and gen/python on the import path (an installed dragoman has it).
"""

from __future__ import annotations

import argparse
import os
import sys

import grpc

from dragoman.v1 import chat_pb2, llm_service_pb2_grpc


def main() -> int:
    """Ask, print the answer as it comes; 1 where the call failed."""
    parser = argparse.ArgumentParser(description="Streams one answer from Dragoman over gRPC.")
    parser.add_argument("prompt")
    parser.add_argument("--address", default="127.0.0.1:50051")
    parser.add_argument("--model", default="", help="provider/model (default: the workspace's default model)")
    arguments = parser.parse_args()

    request = chat_pb2.ChatRequest(
        model=arguments.model, messages=[chat_pb2.Message(role="user", content=arguments.prompt)]
    )
    metadata = (("authorization", f"Bearer {os.environ['DRAGOMAN_API_KEY']}"),)
    with grpc.insecure_channel(arguments.address) as channel:
        try:
            for event in llm_service_pb2_grpc.LLMServiceStub(channel).Chat(request, metadata=metadata):
                if event.WhichOneof("event") == "block_delta":
                    print(event.block_delta.text, end="", flush=True)
                elif event.WhichOneof("event") == "completed":
                    used = event.completed.usage
                    print(f"\n[{event.completed.model}: {used.prompt_tokens} + {used.completion_tokens} tokens]")
        except grpc.RpcError as error:
            print(f"\n{error.code().name}: {error.details()}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
