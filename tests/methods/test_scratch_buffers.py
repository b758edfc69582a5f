"""Scratch memory: kept by each thread for itself, and writable in any mode."""

import threading

import torch

from evovlm.methods._scratch_buffers import MOST_KEPT, Scratch


def test_a_name_taken_again_is_the_same_memory():
    scratch = Scratch()
    first = scratch.take("a", 4, 8)
    assert scratch.take("a", 2, 5).data_ptr() == first.data_ptr()
    assert scratch.take("b", 4, 8).data_ptr() != first.data_ptr()
    assert scratch.take("a", 2, 5).shape == (2, 5)


def test_threads_do_not_share():
    scratch, found = Scratch(), []
    mine = scratch.take("a", 1, 10)
    thread = threading.Thread(target=lambda: found.append(scratch.take("a", 1, 10)))
    thread.start()
    thread.join()
    assert found[0].data_ptr() != mine.data_ptr()


def test_what_inference_mode_made_can_be_written_outside():
    scratch = Scratch()
    with torch.inference_mode():
        scratch.take("a", 1, 3).fill_(1.0)
    assert scratch.take("a", 1, 3).add_(1.0).tolist() == [[2.0, 2.0, 2.0]]


def test_large_buffers_are_not_kept():
    scratch = Scratch()
    assert scratch.take("a", 1, MOST_KEPT + 1).shape == (1, MOST_KEPT + 1)
    assert scratch._kept == {}
