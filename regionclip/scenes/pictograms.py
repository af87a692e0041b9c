"""The 40 pictograms: names, glyphs of DejaVu Sans, other words captions use for them, and the base / novel split."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pictogram:
    """One class: its singular name, its glyphs (filled and outlined variants), its plural and a synonym pair."""

    name: str
    glyphs: str
    plural: str
    synonym: tuple[str, str] | None = None


PICTOGRAMS: tuple[Pictogram, ...] = (
    Pictogram("umbrella", "\u2602\u2614", "umbrellas"),
    Pictogram("scissors", "\u2702\u2704", "scissors"),
    Pictogram("airplane", "\u2708", "airplanes", ("plane", "planes")),
    Pictogram("anchor", "\u2693", "anchors"),
    Pictogram("snowman", "\u2603", "snowmen"),
    Pictogram("cat", "\U0001f431\U0001f638", "cats", ("kitten", "kittens")),
    Pictogram("cow", "\U0001f42e", "cows"),
    Pictogram("mouse", "\U0001f42d", "mice"),
    Pictogram("monkey", "\U0001f435", "monkeys", ("ape", "apes")),
    Pictogram("telephone", "\u260e\u260f", "telephones", ("phone", "phones")),
    Pictogram("cup", "\u2615", "cups", ("teacup", "teacups")),
    Pictogram("clover", "\u2618\u2663", "clovers"),
    Pictogram("skull", "\u2620", "skulls"),
    Pictogram("crescent moon", "\u263e\u263d", "crescent moons", ("moon", "moons")),
    Pictogram("chess knight", "\u2658\u265e", "chess knights"),
    Pictogram("chess queen", "\u2655\u265b", "chess queens"),
    Pictogram("chess rook", "\u2656\u265c", "chess rooks"),
    Pictogram("chess pawn", "\u2659\u265f", "chess pawns"),
    Pictogram("gear", "\u2699", "gears", ("cog", "cogs")),
    Pictogram("wheel", "\u2638", "wheels"),
    Pictogram("scale", "\u2696", "scales", ("balance", "balances")),
    Pictogram("star", "\u2605\u2606", "stars"),
    Pictogram("heart", "\u2665\u2661\u2764", "hearts"),
    Pictogram("sun", "\u2600\u263c", "suns"),
    Pictogram("cloud", "\u2601", "clouds"),
    Pictogram("envelope", "\u2709", "envelopes", ("letter", "letters")),
    Pictogram("pencil", "\u270e\u270f", "pencils"),
    Pictogram("flag", "\u2690\u2691", "flags", ("banner", "banners")),
    Pictogram("domino", "\U0001f03b\U0001f06b\U0001f03e\U0001f06e", "dominoes"),
    Pictogram("music note", "\u266a\u266b", "music notes"),
    Pictogram("lightning bolt", "\u26a1", "lightning bolts"),
    Pictogram("snowflake", "\u2744\u2746", "snowflakes"),
    Pictogram("flower", "\u273f\u2740", "flowers", ("blossom", "blossoms")),
    Pictogram("spade", "\u2660\u2664", "spades"),
    Pictogram("smiley face", "\u263a\u263b", "smiley faces", ("happy face", "happy faces")),
    Pictogram("sad face", "\u2639\U0001f622", "sad faces", ("frowning face", "frowning faces")),
    Pictogram("hammer", "\u2692", "hammers"),
    Pictogram("wheelchair", "\u267f", "wheelchairs"),
    Pictogram("keyboard", "\u2328", "keyboards"),
    Pictogram("sword", "\u2694", "swords"),
)

CLASS_NAMES: tuple[str, ...] = tuple(pictogram.name for pictogram in PICTOGRAMS)

NOVEL: tuple[str, ...] = (
    "scissors",
    "chess queen",
    "chess rook",
    "cloud",
    "clover",
    "sun",
    "gear",
    "sword",
    "monkey",
    "pencil",
    "sad face",
    "telephone",
)
BASE: tuple[str, ...] = tuple(name for name in CLASS_NAMES if name not in NOVEL)
