"""From a CLIP and a configuration to a teacher."""

from __future__ import annotations

import copy

import torch
from open_clip.modified_resnet import ModifiedResNet
from torch import nn

from regionclip.clip_models import Clip, clip_width, known_pixels
from regionclip.known_clips import Pixels
from regionclip.teachers.compiling import check_compiler
from regionclip.teachers.crop import CropTeacher
from regionclip.teachers.dense import DenseTeacher, has_map
from regionclip.teachers.resnet import FusedResNetTeacher, ResNetTeacher, fold_batchnorm
from regionclip.teachers.teacher import Teacher, TeacherConfig
from regionclip.teachers.winograd import use_winograd


def make_teacher(clip: Clip, config: TeacherConfig, device: torch.device | str = "cpu") -> Teacher:
    """A teacher on `device` from a copy of the image tower of any open_clip model.

    Raises ValueError for a mode or pooling that the tower has not, and where torch.compile is asked for and fails.
    """
    if config.compile:
        check_compiler(device)
    visual = copy.deepcopy(clip.visual).eval()
    is_resnet = isinstance(visual, ModifiedResNet)
    if is_resnet and config.fused:
        fold_batchnorm(visual)
    visual = _in_type(visual, config.dtype).to(device)
    if is_resnet and config.fused and config.precision == "fp32" and torch.device(device).type == "cpu":
        use_winograd(visual)
    if config.channels_last:
        visual = visual.to(memory_format=torch.channels_last)
    if config.mode == "crop" or (config.mode == "auto" and not (is_resnet or has_map(visual))):
        return CropTeacher(visual, clip_width(clip), config)
    if not is_resnet:
        return DenseTeacher(visual, clip_width(clip), config)
    if config.pooling == "mean_pool":
        raise ValueError("CLIP's ResNet projects through its attention pool alone; choose pooling 'head'")
    return FusedResNetTeacher(visual, config) if config.fused else ResNetTeacher(visual, config)


def teacher_pixels(clip: Clip, config: TeacherConfig) -> Pixels:
    """What images for the teacher are normalised by: what the configuration says, else what is known of the weights."""
    known = known_pixels(clip)
    return Pixels(config.mean or known.mean, config.std or known.std)


def _in_type(visual: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The tower in a type, except BatchNorm, whose statistics are sums over a data set and stay in fp32."""
    visual.to(dtype)
    for module in visual.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.float()
    return visual
