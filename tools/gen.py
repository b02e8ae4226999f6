"""Make gen/ from the contract: Python code with stubs, Envoy's descriptor set and rules, the OpenAPI document.

Everything it runs comes from the lock, nothing from the network, and the same contract gives the same bytes. With
``--check`` it writes nothing and fails where gen/ (or a vendored proto) is not what would be written.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from google.protobuf import descriptor_pb2
from grpc_tools import protoc
from protovalidate._gen.buf.validate import validate_pb

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools import edge_rules, openapi

ROOT = Path(__file__).resolve().parent.parent
VALIDATE = "buf/validate/validate.proto"
# Vendored for whoever compiles the contract with nothing else at hand; the bytes are googleapis-common-protos' own.
GOOGLE = (
    "google/api/annotations.proto",
    "google/api/http.proto",
    "google/api/httpbody.proto",
    "google/rpc/error_details.proto",
    "google/rpc/status.proto",
)
# In the descriptor set though the contract may not import them: Envoy renders a status's details only from types it
# knows, and answers with an empty body otherwise.
DESCRIBED = ("google/api/httpbody.proto", "google/rpc/error_details.proto", "google/rpc/status.proto")
BANNER = "# Generated from protos/ by `make gen`. Do not edit.\n"


class GenerationError(Exception):
    """The contract does not compile, or a vendored proto is not the one that the library at hand speaks."""


def compile_protos(includes: Sequence[Path], files: Sequence[str], *outputs: str) -> None:
    """Run the protoc of grpcio-tools. Raises GenerationError; protoc has then printed where and why."""
    well_known = Path(str(importlib.util.find_spec("grpc_tools").submodule_search_locations[0])) / "_proto"  # type: ignore[union-attr,index]
    paths = [f"-I{path}" for path in (*includes, well_known)]
    if protoc.main(["protoc", *paths, *outputs, *files]) != 0:
        raise GenerationError("protoc failed: see the lines above")


def plugin(name: str) -> str:
    """protoc's flag for a plugin that is installed beside this interpreter."""
    return f"--plugin={name}={Path(sysconfig.get_path('scripts')) / name}"


def descriptors(path: Path) -> descriptor_pb2.FileDescriptorSet:
    """Read a descriptor set."""
    return descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())


def refresh_vendored(third_party: Path) -> None:
    """Copy the google protos out of the installed wheel, and hold validate.proto against what protovalidate speaks.

    The protovalidate wheel carries only a descriptor, so its source is vendored; a library that moved on is an error.
    """
    import google.api  # noqa: PLC0415 - namespace package: asked for its place only

    site = Path(next(iter(google.api.__path__))).parent.parent
    for name in GOOGLE:
        target = third_party / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(site / name, target)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "validate.pb"
        compile_protos([third_party], [VALIDATE], f"--descriptor_set_out={out}")
        vendored = descriptors(out).file[0]
    spoken = descriptor_pb2.FileDescriptorProto.FromString(validate_pb._DESC.proto.to_binary())  # noqa: SLF001
    for one in (vendored, spoken):
        one.ClearField("options")  # other languages' package names, which their publishers rewrite
    if vendored != spoken:
        raise GenerationError(f"third_party/{VALIDATE} is not the version that the installed protovalidate speaks")


def generate_python(protos: Path, third_party: Path, files: Sequence[str], out: Path) -> None:
    """Write the import root: messages, gRPC stubs, and types for both; buf.validate too, which no wheel has."""
    out.mkdir(parents=True)
    includes = [protos, third_party]
    messages = [plugin("protoc-gen-mypy"), f"--python_out={out}", f"--mypy_out=quiet:{out}"]
    services = [plugin("protoc-gen-mypy_grpc"), f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}"]
    compile_protos(includes, [*files, VALIDATE], *messages)
    compile_protos(includes, files, *services)
    for empty in [path for path in out.rglob("*_pb2_grpc.py*") if not has_service(protos, path.relative_to(out))]:
        empty.unlink()
    for folder in sorted({path.parent for path in out.rglob("*.py")}):
        (folder / "py.typed").touch()


def has_service(protos: Path, stub: Path) -> bool:
    """Whether the proto that a generated file of gRPC stubs came from declares a service at all."""
    proto = protos / stub.parent / (stub.name.partition("_pb2_grpc")[0] + ".proto")
    return any(line.startswith("service ") for line in proto.read_text().splitlines())


def generate(protos: Path, third_party: Path, out: Path) -> None:
    """Write the whole of gen/ into an empty folder."""
    files = sorted(path.relative_to(protos).as_posix() for path in protos.rglob("*.proto"))
    if not files:
        raise GenerationError(f"no .proto file under {protos}")
    generate_python(protos, third_party, files, out / "python")
    includes = [protos, third_party]
    described = out / "descriptors" / "dragoman.pb"
    described.parent.mkdir()
    compile_protos(includes, [*files, *DESCRIBED], "--include_imports", f"--descriptor_set_out={described}")
    with tempfile.TemporaryDirectory() as folder:
        commented = Path(folder) / "commented.pb"
        compile_protos(
            includes, files, "--include_imports", "--include_source_info", f"--descriptor_set_out={commented}"
        )
        document = openapi.render(openapi.document(descriptors(commented)))
    (out / "openapi").mkdir()
    (out / "openapi" / "dragoman.yaml").write_text(BANNER + document)
    (out / "lua").mkdir()
    (out / "lua" / "rest.lua").write_text(edge_rules.render(descriptors(described)))


def tree(root: Path) -> dict[str, bytes]:
    """Every file under a folder by its path, what Python leaves behind excepted."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def drift(fresh: Path, committed: Path) -> Iterator[str]:
    """A line for each file that differs, is missing or is left over."""
    new, old = tree(fresh), tree(committed)
    for name in sorted(new.keys() | old.keys()):
        if name not in old:
            yield f"{committed.name}/{name} is missing"
        elif name not in new:
            yield f"{committed.name}/{name} is left over"
        elif new[name] != old[name]:
            yield f"{committed.name}/{name} is stale"


def replace(fresh: Path, target: Path) -> None:
    """Make a folder equal to a fresh one, leaving alone the files that are equal already."""
    new, old = tree(fresh), tree(target)
    for name in old.keys() - new.keys():
        (target / name).unlink()
    for name, content in new.items():
        if old.get(name) != content:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(content)


def main() -> int:
    """Run the command line; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail on drift")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout to work on")
    arguments = parser.parse_args()
    root: Path = arguments.root
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "gen").mkdir()
        shutil.copytree(root / "third_party", work / "third_party")
        try:
            refresh_vendored(work / "third_party")
            generate(root / "protos", work / "third_party", work / "gen")
        except (GenerationError, openapi.UnsupportedContractError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        if not arguments.check:
            for name in ("third_party", "gen"):
                replace(work / name, root / name)
            return 0
        lines = [line for name in ("third_party", "gen") for line in drift(work / name, root / name)]
    for line in lines:
        print(line)
    if lines:
        print("run `make gen` and commit what it writes")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
