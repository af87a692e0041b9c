"""Chains on S3-compatible storage: a server on loopback, killed drivers, Ray actors, and the bytes of a local store.

The server, its keys and all else travel to drivers and to the actors of their Ray by environment variables alone.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import stages
from pipelines.config import PipelineConfig
from pipelines.loading import load
from pipelines.pseudo_label import pseudo_label
from pipelines.runner import Runner
from pipelines.store import list_artifacts
from regionclip.concepts.parsing import ParsingConfig
from stages import extract_concepts, parse_captions, read_captions
from stages.contract import Resources
from stages.storage import Folder

NUM_FILES = 3
NOUNS = ("dog", "cat", "bus", "tree", "kite")
NUM_IMAGES, NUM_TARS = 6, 2
LABELS = """
extends: demo
teacher: {model: rgc-test-rn, pretrained: null, allow_untrained: true}
student: null
proposals: {resize: &small {rule: pretraining, short_side: 64, max_side: 96}, part_size: 2}
concepts: {min_document_frequency: 1}
embeddings: {templates: plain}
regions: {num_regions: 5, resize: *small, part_size: 2}
labels: {threshold: 0.0, candidates: pool, part_size: 2}
resources:
  default: &here {num_workers: 0, num_cpus: 1, batch_size: 2}
  stages: {propose_regions: *here, encode_regions: *here}
"""
TARS = "{images: '*.tar', captions: '*.tar', format: webdataset, split: null}"
FILES = "{images: pictures, captions: captions.txt, format: folder, split: null}"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
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
        patch.setenv("RGC_CACHE", str(tmp_path_factory.mktemp("cache")))
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


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of images of two sizes, as files of their own and in tars."""
    folder = tmp_path / "data"
    (folder / "pictures").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number in range(NUM_IMAGES):
        pixels = draw.integers(0, 256, (8, 8 + number % 2, 3), np.uint8)
        Image.fromarray(pixels).resize((80 + 8 * (number % 2), 64)).save(folder / "pictures" / f"{number}.png")
    texts = [f"a {NOUNS[number % len(NOUNS)]}" for number in range(NUM_IMAGES)]
    (folder / "captions.txt").write_text("\n".join(texts))
    for number in range(NUM_TARS):
        with tarfile.open(folder / f"{number}.tar", "w") as tar:
            for image in range(number, NUM_IMAGES, NUM_TARS):
                tar.add(folder / "pictures" / f"{image}.png", f"{image}.png")
                member = tarfile.TarInfo(f"{image}.txt")
                member.size = len(texts[image])
                tar.addfile(member, io.BytesIO(texts[image].encode()))
    return folder


def label_pictures(store: str, root: str, config: str, on_ray: bool) -> None:
    """Images in tars, and the same as files of their own, to region labels; on_ray: each pass once by an actor."""
    actor = "={num_workers: 1, num_cpus: 1, batch_size: 2}"
    for form, spread in ((TARS, ("encode_regions", "label_regions")), (FILES, ("propose_regions",))):
        actors = [f"resources.stages.{stage}{actor}" for stage in spread if on_ray]
        read = load(PipelineConfig, config, [f"data.root={root}", f"data.train={form}", *actors])
        resources, console = read.resources, Console(file=io.StringIO())
        with Runner(Folder(store), None, resources.stages, resources.default, console=console) as run:
            pseudo_label(read, run)


def run_elsewhere(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this file as a program in another process."""
    paths = [str(Path(stages.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True)


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


def test_of_all_that_want_to_write_an_artifact_of_a_bucket_at_once_one_may(bucket: str) -> None:
    lock = Folder(f"{bucket}/wanted/.locks")
    with ThreadPoolExecutor(6) as threads:
        made = list(threads.map(lambda number: lock.create("regions-1.json", bytes([number])), range(6)))
    assert sum(made) == 1
    assert lock.read("regions-1.json") == bytes([made.index(True)])


def test_a_run_killed_on_a_bucket_is_taken_up_where_it_was(bucket: str, captions: Path, tmp_path: Path) -> None:
    local, remote = str(tmp_path / "store"), f"{bucket}/killed"
    run_chain(local, str(captions))
    whole = contents(local)
    for finished in (0, 1):
        assert run_elsewhere("die", remote, str(captions), "2").returncode == -signal.SIGKILL
        assert len(contents(remote)) == finished
    run_chain(remote, str(captions))
    assert contents(remote) == whole


def test_actors_read_images_of_a_bucket_and_write_the_labels_that_one_process_writes_to_a_disk(
    bucket: str, pictures: Path, tmp_path: Path
) -> None:
    import fsspec

    config, local, remote = tmp_path / "labels.yaml", str(tmp_path / "store"), f"{bucket}/labels"
    config.write_text(LABELS)
    label_pictures(local, str(pictures), str(config), on_ray=False)
    fsspec.filesystem("s3").put(f"{pictures}/", f"{bucket}/data/", recursive=True)
    done = run_elsewhere("label", remote, f"{bucket}/data", str(config))
    assert done.returncode == 0, done.stderr[-2000:]
    made = contents(remote)
    assert made == contents(local)
    assert sum("label_regions" in name for name in made) == 2


def write_and_die(store: str, captions: str, records: int) -> None:
    """Run the chain and be killed on having written a number of records of parts."""
    written, write = [], Folder.write

    def write_or_die(self: Folder, name: str, data: bytes, durable: bool = True) -> None:
        write(self, name, data, durable)
        if name.startswith("parts/") and not name.startswith("parts/."):
            written.append(name)
            if len(written) == records:
                os.kill(os.getpid(), signal.SIGKILL)

    Folder.write = write_or_die  # type: ignore[method-assign]
    run_chain(store, captions)


if __name__ == "__main__":
    what, store, data, more = sys.argv[1:]
    if what == "die":
        write_and_die(store, data, int(more))
    else:
        label_pictures(store, data, more, on_ray=True)
