import pytest

from models.networks.regressors import KeypointNet, KeypointNetConfig
from models.tasks.digits import Digits
from models.training.config import TrainingConfig
from models.training.loop import reproducible
from models.training.regressor import train_regressor


@pytest.fixture(scope="session")
def regressor(digits: Digits) -> KeypointNet:
    """Trained for an epoch. Shared: do not change it."""
    with reproducible(0):
        net = KeypointNet(KeypointNetConfig())
    train_regressor(net, digits, TrainingConfig.tiny())
    return net
