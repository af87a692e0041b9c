"""Put trained models of a store into the package, as float16 with their provenance.

    rgc run train-teacher && rgc run train-proposer
    python benchmarks/pack_weights.py --command "rgc run train-teacher" KEY=pictograms-teacher KEY=pictograms-student

An artifact's weights are copied without change but for their precision; the provenance is taken from its manifest.
"""

from __future__ import annotations

import argparse
import json

from safetensors.torch import load_file, save_file

from pipelines.store import find_artifact
from regionclip.packaged import FOLDER
from stages.storage import Folder

WEIGHTS = {"clip": "clip", "region_encoder": "clip", "proposer": "proposer"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", default=".rgc/store")
    parser.add_argument("--command", required=True, help="the command that made the artifacts")
    parser.add_argument("--metrics", type=json.loads, default={}, help="JSON: NAME -> what was measured of it")
    parser.add_argument("pairs", nargs="+", metavar="KEY=NAME")
    arguments = parser.parse_args()
    for pair in arguments.pairs:
        key, name = pair.split("=")
        pack(Folder(arguments.store), key, name, arguments.command, arguments.metrics.get(name, {}))


def pack(store: Folder, key: str, name: str, command: str, metrics: dict[str, float]) -> None:
    """Write regionclip/weights/<name>/ from the artifact `key`."""
    artifact = find_artifact(store, key)
    stem, manifest, source = WEIGHTS[artifact.kind], artifact.manifest, artifact.folder.local()
    target = FOLDER / name
    target.mkdir(parents=True, exist_ok=True)
    tensors = {
        each: value.half() if value.is_floating_point() else value
        for each, value in load_file(source / f"{stem}.safetensors").items()
    }
    save_file(tensors, target / f"{stem}.safetensors")
    (target / f"{stem}.json").write_text((source / f"{stem}.json").read_text())
    kept = ("stage", "version", "key", "config", "inputs", "git", "started", "seconds")
    provenance = {
        "command": command,
        **{field: manifest[field] for field in kept},
        "metrics": {**manifest["metrics"], **metrics},
    }
    (target / "provenance.json").write_text(json.dumps(provenance, indent=1) + "\n")
    print(f"{target}: {(target / f'{stem}.safetensors').stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
