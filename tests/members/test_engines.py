def test_the_images_that_are_compared_are_from_all_over():
    from ensembler.members.engines import _spread

    assert _spread(1000, 5).tolist() == [0, 249, 499, 749, 999]
    assert _spread(3, 32).tolist() == [0, 1, 2]
    assert _spread(0, 32).tolist() == []
