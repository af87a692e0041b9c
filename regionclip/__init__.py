"""RegionCLIP as a library: region-level CLIP pretraining in plain torch, without a cluster."""
