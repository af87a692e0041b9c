from stages import evaluate
from regionclip.images import ResizeConfig
def test_all(world, encoder, detector):
    print({k: v.manifest.get("metrics") for k, v in world.artifacts.items()}, encoder.manifest, detector.manifest)
    c = evaluate.EvaluateConfig(base=("cat","cup","kite"), novel=("anchor",), temperature=.1, resize=ResizeConfig("detection",64,96), part_size=2)
    r = world.run(evaluate.STAGE, c, "enc", model=encoder, images=world["test_images"], boxes=world["test_boxes"], embeddings=world["embeddings"])
    print(r.folder.read("metrics.json").decode())
    r = world.run(evaluate.STAGE, c, "det", model=detector, images=world["test_images"], boxes=world["test_boxes"], proposals=world["test_proposals"])
    print(r.folder.read("metrics.json").decode())
    print(r.folder.names())
