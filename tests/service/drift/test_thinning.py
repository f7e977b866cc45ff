from service.drift.thinning import MAX_SOURCES, Thinning


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_of_a_source_one_image_counts_in_an_interval() -> None:
    clock = Clock()
    thinning = Thinning(10.0, clock)
    counted = []
    for second in range(25):
        clock.now_s = 100.0 + second
        counted.append(thinning.counts("gate"))
    assert [second for second, counts in enumerate(counted) if counts] == [0, 10, 20]


def test_sources_do_not_thin_each_other_and_images_without_one_all_count() -> None:
    thinning = Thinning(10.0, Clock())
    assert [thinning.counts(source) for source in ("a", "b", "a", None, None)] == [True, True, False, True, True]


def test_memory_is_bounded_and_the_longest_known_source_is_forgotten_first() -> None:
    thinning = Thinning(10.0, Clock())
    for number in range(3 * MAX_SOURCES):
        assert thinning.counts(f"camera {number}")
    assert len(thinning) == MAX_SOURCES
    assert not thinning.counts(f"camera {3 * MAX_SOURCES - 1}")
    assert thinning.counts("camera 0")


def test_an_interval_of_nothing_thins_nothing() -> None:
    thinning = Thinning(0.0, Clock())
    assert thinning.counts("a")
    assert thinning.counts("a")
