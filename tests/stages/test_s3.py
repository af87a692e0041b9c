"""The concept chain on S3-compatible storage: a server on loopback, killed drivers, and the bytes of a local store."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

import stages
from pipelines.runner import Runner
from pipelines.store import list_artifacts
from regionclip.concepts.parsing import ParsingConfig
from stages import extract_concepts, parse_captions, read_captions
from stages.contract import Resources
from stages.storage import Folder

NUM_FILES = 3
NOUNS = ("dog", "cat", "bus", "tree", "kite")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URI of a bucket of a server of this process, which the environment names for fsspec."""
    pytest.importorskip("s3fs", reason="the S3 driver of fsspec is not installed")
    server_of = pytest.importorskip("moto.server", reason="the S3 server is not installed").ThreadedMotoServer
    import fsspec

    server = server_of("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("NO_PROXY", "127.0.0.1")
        fsspec.filesystem("s3").mkdir("bucket")
        yield "s3://bucket"
    server.stop()


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    """A folder of caption files."""
    folder = tmp_path / "captions"
    folder.mkdir()
    for number in range(NUM_FILES):
        lines = [f"a {noun} and a {other} number {number}" for noun in NOUNS for other in NOUNS]
        (folder / f"{number}.txt").write_text("\n".join(lines))
    return folder


def run_chain(store: str, captions: str) -> None:
    """Captions to concepts, in place."""
    files = tuple(f"{number}.txt" for number in range(NUM_FILES))
    with Runner(Folder(store), default=Resources(num_workers=0), console=Console(file=io.StringIO())) as run:
        read = run(read_captions.STAGE, read_captions.CaptionsConfig(root=captions, files=files))
        phrases = run(parse_captions.STAGE, ParsingConfig(parsers=("ngrams",)), captions=read)
        run(extract_concepts.STAGE, extract_concepts.ConceptsConfig(min_document_frequency=2), phrases=phrases)


def run_and_die(store: str, captions: Path, records: int) -> int:
    """Run the chain in another process, which is killed when it has written a number of records of parts."""
    paths = [str(Path(stages.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return subprocess.run(
        [sys.executable, __file__, store, str(captions), str(records)], env=environment, check=False
    ).returncode


def contents(store: str) -> dict[str, dict[str, dict[str, object]]]:
    """Stage -> the sha256, size and rows of each of its files, read back from the store."""
    found = {}
    for artifact in list_artifacts(Folder(store)):
        manifest = artifact.manifest
        for name, facts in manifest["files"].items():
            assert artifact.folder.checksum(name) == (facts["sha256"], facts["bytes"])
        found[f"{manifest['stage']} {artifact.key}"] = manifest["files"]
    return found


def test_a_bucket_holds_what_a_disk_holds_and_a_second_run_reuses_it(
    bucket: str, captions: Path, tmp_path: Path
) -> None:
    local, remote = str(tmp_path / "store"), f"{bucket}/whole"
    run_chain(local, str(captions))
    run_chain(remote, str(captions))
    made = contents(remote)
    assert len(made) == 3
    assert made == contents(local)
    ended = [artifact.manifest["ended"] for artifact in list_artifacts(Folder(remote))]
    run_chain(remote, str(captions))
    assert [artifact.manifest["ended"] for artifact in list_artifacts(Folder(remote))] == ended
    assert Folder(remote).child(".locks").names() == []


def test_a_run_killed_on_a_bucket_is_taken_up_where_it_was(bucket: str, captions: Path, tmp_path: Path) -> None:
    local, remote = str(tmp_path / "store"), f"{bucket}/killed"
    run_chain(local, str(captions))
    whole = contents(local)
    for finished in (0, 1):
        assert run_and_die(remote, captions, records=2) == -signal.SIGKILL
        assert len(contents(remote)) == finished
    run_chain(remote, str(captions))
    assert contents(remote) == whole


if __name__ == "__main__":
    written, write = [], Folder.write

    def write_and_die(self: Folder, name: str, data: bytes, durable: bool = True) -> None:
        write(self, name, data, durable)
        if name.startswith("parts/") and not name.startswith("parts/."):
            written.append(name)
            if len(written) == int(sys.argv[3]):
                os.kill(os.getpid(), signal.SIGKILL)

    Folder.write = write_and_die  # type: ignore[method-assign]
    run_chain(sys.argv[1], sys.argv[2])
