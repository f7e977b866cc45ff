import torch

from models.networks.regressors import KeypointNet, KeypointNetConfig, normalise


def test_normalise_turns_canvases_into_small_channel_first_floats() -> None:
    images = torch.zeros(2, 8, 6, 3, dtype=torch.uint8)
    images[0, 1, 2, 0] = 255
    floats = normalise(images)
    assert floats.shape == (2, 3, 8, 6)
    assert floats.dtype == torch.float32
    assert floats[0, 0, 1, 2] == floats.max()
    assert floats.abs().max() < 3


def test_features_have_the_sizes_that_the_network_announces() -> None:
    net = KeypointNet(KeypointNetConfig(keypoints=3)).eval()
    features = net(torch.zeros(2, 1, 64, 64))
    assert features.prediction.shape == (2, 3, 2)
    assert tuple(one.shape[1] for one in features.maps) == net.map_channels
    assert [one.shape[2] for one in features.maps] == [32, 16, 8]
    assert features.embedding.shape == (2, net.embedding_size)


def test_a_vote_without_offset_or_preference_is_the_middle_of_the_canvas() -> None:
    net = KeypointNet(KeypointNetConfig(keypoints=2)).eval()
    torch.nn.init.zeros_(net.votes.weight)
    assert net.votes.bias is not None
    torch.nn.init.zeros_(net.votes.bias)
    with torch.no_grad():
        prediction = net(torch.rand(1, 1, 64, 64)).prediction
    torch.testing.assert_close(prediction, torch.full((1, 2, 2), 32.0))


def test_attention_to_one_cell_predicts_its_centre_as_x_then_y() -> None:
    net = KeypointNet(KeypointNetConfig(keypoints=1))
    coarse = torch.zeros(1, net.map_channels[-1], 8, 8)
    coarse[0, 0, 2, 5] = 1.0  # row 2, column 5
    torch.nn.init.zeros_(net.votes.weight)
    with torch.no_grad():
        net.votes.weight[0, 0] = 1e3
    torch.testing.assert_close(net._vote(coarse)[0, 0], torch.tensor([5.5 * 8, 2.5 * 8]), atol=8.0, rtol=0)
    with torch.no_grad():
        assert net.votes.bias is not None
        net.votes.bias.zero_()
    torch.testing.assert_close(net._vote(coarse)[0, 0], torch.tensor([5.5 * 8, 2.5 * 8]))
