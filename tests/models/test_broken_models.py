"""Each law refuses a network that breaks it, and says why; a law that nothing breaks would hold nothing."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from research.testing import model_laws
from research.testing.model_laws import Subject


class Sound(nn.Module):
    """Keeps every law: what the broken ones below change in one place."""

    num_classes: int = 4
    dtype: type = jnp.float32

    @nn.compact
    def __call__(self, images, *, train: bool):
        return self.head(self.features(images, train))

    def features(self, x, train):
        x = nn.Conv(6, (3, 3), dtype=self.dtype, name="conv")(x)
        return nn.relu(self.normalised(x, train)).mean((1, 2))

    def normalised(self, x, train):
        return nn.BatchNorm(use_running_average=not train, dtype=self.dtype, name="norm")(x)

    def head(self, x):
        if self.num_classes == 0:
            return x.astype(jnp.float32)
        return nn.Dense(self.num_classes, dtype=self.dtype, name="head")(x).astype(jnp.float32)


class TrainsByDefault(Sound):
    @nn.compact
    def __call__(self, images, *, train: bool = True):
        return self.head(self.features(images, train))


class HalfPrecisionOutput(Sound):
    def head(self, x):
        return nn.Dense(self.num_classes, dtype=self.dtype, name="head")(x)


class HalfPrecisionParameters(Sound):
    def head(self, x):
        return nn.Dense(4, param_dtype=jnp.bfloat16, name="head")(x).astype(jnp.float32)


class UnnamedLayer(Sound):
    def normalised(self, x, train):
        return nn.BatchNorm(use_running_average=not train)(x)


class HeadWithoutClasses(Sound):
    def head(self, x):
        return nn.Dense(self.num_classes or 1, name="head")(x)


class UnusedParameter(Sound):
    def head(self, x):
        self.param("unused", nn.initializers.ones, (3,))
        return super().head(x)


class EvaluatesOnBatchStatistics(Sound):
    def normalised(self, x, train):
        return nn.BatchNorm(use_running_average=False, dtype=self.dtype, name="norm")(x)


class FrozenStatistics(Sound):
    def normalised(self, x, train):
        return nn.BatchNorm(use_running_average=True, dtype=self.dtype, name="norm")(x)


class IgnoresType(Sound):
    def features(self, x, train):
        x = nn.Conv(6, (3, 3), name="conv")(x)
        return nn.BatchNorm(use_running_average=not train, name="norm")(x).mean((1, 2))

    def head(self, x):
        return nn.Dense(self.num_classes, name="head")(x)


class LosesPrecision(Sound):
    def head(self, x):
        # Said outright: a sum whose terms cancel may be worked out in float32 after all, as it is on GPUs.
        return super().head(jax.lax.reduce_precision(x, 8, 1) if x.dtype == jnp.bfloat16 else x)


BROKEN = [
    (TrainsByDefault, model_laws.train_has_no_default, "by default"),
    (HalfPrecisionOutput, model_laws.outputs_are_float32_logits, "gives bfloat16"),
    (HalfPrecisionParameters, model_laws.parameters_are_float32, "head/kernel is bfloat16"),
    (UnnamedLayer, model_laws.parameters_have_explicit_names, "BatchNorm_0/scale"),
    (HeadWithoutClasses, model_laws.no_classes_gives_features, "changes params/head"),
    (UnusedParameter, model_laws.gradient_reaches_every_parameter, "unused"),
    (EvaluatesOnBatchStatistics, model_laws.evaluation_is_batch_independent, "alone is off"),
    (EvaluatesOnBatchStatistics, model_laws.only_training_changes_statistics, "evaluation changes norm/mean"),
    (FrozenStatistics, model_laws.only_training_changes_statistics, "training does not change norm/mean"),
    (IgnoresType, model_laws.bfloat16_is_close, "not used"),
    (LosesPrecision, model_laws.bfloat16_is_close, "is off by"),
]


@pytest.mark.parametrize(("broken", "law", "message"), BROKEN, ids=[f"{b.__name__}-{w.__name__}" for b, w, _ in BROKEN])
def test_a_broken_network_is_refused(broken, law, message):
    with pytest.raises(AssertionError, match=message):
        law(Subject(broken(), (8, 8, 3)))


def test_a_sound_network_passes_every_law():
    model_laws.check(Subject(Sound(), (8, 8, 3)))


def test_every_law_is_broken_by_something():
    assert {law for _, law, _ in BROKEN} == {*model_laws.SHAPE_LAWS, *model_laws.NUMERIC_LAWS}
