"""The open-vocabulary head: cosine to class embeddings, a constant background logit, class-agnostic boxes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

BOX_INIT_STD = 0.001


class OpenVocabularyHead(nn.Module):
    """Scores raw region features against any class table, and optionally regresses boxes from them.

    width: D of the features. temperature: fixed divisor of the cosines.
    num_box_outputs: 4 for class-agnostic box deltas, None for a head without box regression.
    """

    def __init__(self, width: int, temperature: float = 0.01, num_box_outputs: int | None = 4) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature is {temperature}; give a number above 0")
        if num_box_outputs not in (None, 4):
            raise ValueError(f"num_box_outputs is {num_box_outputs}; give 4 (class-agnostic deltas) or None")
        self.width = width
        self.temperature = temperature
        self.num_box_outputs = num_box_outputs
        self.box_regressor: nn.Linear | None = None
        if num_box_outputs is not None:
            self.box_regressor = nn.Linear(width, num_box_outputs)
            nn.init.normal_(self.box_regressor.weight, std=BOX_INIT_STD)
            nn.init.zeros_(self.box_regressor.bias)

    def logits(self, raw_features: Tensor, class_embeddings: Tensor) -> Tensor:
        """Logits [R, K+1] of raw features [R, D]: cosine / temperature, and 0 for background in the last column."""
        self._check_width(class_embeddings)
        features = functional.normalize(raw_features, dim=-1)
        classes = functional.normalize(class_embeddings.to(features.dtype), dim=-1)
        similarity = features @ classes.T / self.temperature
        return torch.cat((similarity, similarity.new_zeros(len(similarity), 1)), dim=1)

    def box_deltas(self, raw_features: Tensor) -> Tensor:
        """Box deltas [R, 4] of raw, un-normalised features [R, D]."""
        if self.box_regressor is None:
            raise ValueError("this head has no box regression; build it with num_box_outputs=4")
        deltas: Tensor = self.box_regressor(raw_features)
        return deltas

    def _check_width(self, class_embeddings: Tensor) -> None:
        if class_embeddings.ndim != 2 or class_embeddings.shape[1] != self.width:
            raise ValueError(
                f"class embeddings have shape {tuple(class_embeddings.shape)}, but the region features are "
                f"{self.width} wide; embed the classes with the text encoder of this model"
            )
