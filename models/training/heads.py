"""Either kind of loss head: one score for each image, or scores of its keypoints as well. Built and trained here."""

from torch import Tensor

from models.networks.heatmap import HeatmapNet
from models.networks.keypoint_head import KeypointHeadConfig, KeypointLossHead, reading_sizes
from models.networks.loss_head import LossHead, LossHeadConfig, build_loss_head
from models.networks.regressors import Regressor
from models.tasks.protocol import RegressionTask
from models.training.config import Progress, TrainingConfig
from models.training.keypoint_head import learn_keypoint_losses
from models.training.loop import Trainer
from models.training.loss_head import observe, train_loss_head

AnyHead = LossHead | KeypointLossHead


def build_head(regressor: Regressor, task: RegressionTask, config: TrainingConfig) -> AnyHead:
    """A fresh head for `regressor`, from the current random state.

    Raises ValueError for a keypoint head without heatmaps, a skeleton and a loss of each keypoint.
    """
    if config.head != "keypoint":
        return build_loss_head(LossHeadConfig(regressor.map_channels, config.head))
    keypoints, limbs = len(task.task.names), task.task.skeleton
    if not isinstance(regressor, HeatmapNet) or not limbs or not hasattr(task, "true_keypoint_loss"):
        raise ValueError(
            f"a keypoint head needs heatmaps, a skeleton and a loss of every keypoint; task {task.task.name!r} lacks "
            "some of these: choose the convolutional or the pooled head"
        )
    sizes = reading_sizes(regressor.map_channels, regressor.embedding_size, keypoints, len(limbs))
    return KeypointLossHead(KeypointHeadConfig(sizes, keypoints, limbs))


def train_any_head(  # noqa: PLR0913, PLR0917 - who learns, from whom, what, how, and where
    head: AnyHead,
    regressor: Regressor,
    task: RegressionTask,
    config: TrainingConfig,
    progress: Progress,
    trainer: Trainer,
) -> Tensor:
    """Fits `head` in place; returns the embeddings [n, e] of the head split, the reference of the OOD score."""
    if isinstance(head, KeypointLossHead):
        return learn_keypoint_losses(head, regressor, task, config, progress, trainer)
    observations = observe(regressor, task.examples("head", config.head_views, config.seed), task)
    train_loss_head(head, observations, config, progress, trainer)
    return observations.embeddings
