"""Settings of `harden`. Field docstrings say unit, range, off-value; defaults live here alone."""

from __future__ import annotations

from pydantic import Field, model_validator

from cropfirst.configs import Config


class PasteConfig(Config):
    """How often a bare face is changed, each as a share of the faces in [0, 1]."""

    worn: float = Field(0.35, ge=0.0, le=1.0)
    """A mask over nose, mouth and chin."""
    incorrect: float = Field(0.2, ge=0.0, le=1.0)
    """A mask that leaves nose or mouth bare."""
    occluded: float = Field(0.1, ge=0.0, le=1.0)
    """A hand, a scarf, sunglasses or something else before a part of the face."""
    drawn: float = Field(0.5, ge=0.0, le=1.0)
    """Of the masks: drawn ones, with textures of their own, rather than from `--templates`."""
    stray: float = Field(0.1, ge=0.0, le=1.0)
    """Of the photos: a mask that nobody wears lies somewhere; it is no face."""
    without: float = Field(0.05, ge=0.0, le=1.0)
    """Of the photos: all faces are painted out."""


class NetConfig(Config):
    """How one of the three nets is trained."""

    rounds: int = Field(3, ge=1)
    """Each round looks for hard examples anew, with what the net has become."""
    views: int = Field(3000, ge=1)
    """Changed photos a round."""
    epochs: int = Field(2, ge=1)
    """Times that a round's windows are gone through."""
    batch_size: int = Field(256, ge=8)
    """Windows a step."""
    lr: float = Field(5e-4, gt=0.0)
    """AdamW's learning rate at its height; it warms up and falls along a cosine."""
    keep: float = Field(0.1, ge=0.0)
    """Weight of a bare face's logit staying the teacher's, by which NMS goes on to choose the same
    box."""
    vary: bool = False
    """Light the windows otherwise and cover a part of some, each time that they are gone through;
    not of those that are to stay with the teacher, whose word is on their very pixels."""


class HardenConfig(Config):
    """`cli.py harden`."""

    weights: str = "reference"
    """Weights of the teacher, which the student starts from: a name or a .safetensors file."""
    seed: int = 0
    """Of all that is drawn at random."""
    min_face_size: int = Field(20, ge=12)
    """Smallest face to learn from, in photo pixels."""
    sure: float = Field(0.95, ge=0.0, le=1.0)
    """Score from which on the teacher's word is taken for the truth."""
    paste: PasteConfig = PasteConfig()
    """What is done to bare faces."""
    pnet: NetConfig = NetConfig(epochs=4, batch_size=512, lr=1e-3)
    """Proposals, at 12 pixels."""
    rnet: NetConfig = NetConfig(batch_size=256)
    """Refinement, at 24 pixels."""
    onet: NetConfig = NetConfig(rounds=5, epochs=4, batch_size=64, keep=0.3, vary=True)
    """Decision, at 48 pixels."""
    boxed: float = Field(0.5, ge=0.0, le=1.0)
    """Share of a round's views that are of photos with boxes, where there are both kinds; beyond
    that each data set has as many as the next."""
    folds: int = Field(10, ge=2)
    """Number of parts that the photos are divided into, by person where known."""
    fold: int | None = Field(0, ge=0)
    """Part that is held out and measured on, counted from 0; null = learn from all photos and
    measure nothing."""
    device: str = "auto"
    """Device of the networks: `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`."""
    workers: int = Field(0, ge=0)
    """Threads that make the views; 0 = one a core."""

    @model_validator(mode="after")
    def _fold_is_one_of_the_folds(self) -> HardenConfig:
        if self.fold is not None and self.fold >= self.folds:
            raise ValueError(f"fold must be below folds ({self.folds}), got {self.fold}")
        return self
