"""A chat template that does not end is refused after its time, wherever it is read; one that does is not."""

import signal
import threading

import pytest

from ptdpo.data import templates
from ptdpo.data.checks import find_bad_rows
from ptdpo.data.prompts import conversation
from ptdpo.data.rendering import render
from ptdpo.data.templates import EndlessTemplateError, apply_template
from ptdpo.models import load_processor
from ptdpo.rewards.functions import opens_thinking
from ptdpo.tutor.rendered import refuse_unread_prompts

# The sandbox allows ranges of 100,000, and does not count what loops in loops come to.
ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture
def endless(tiny_path, monkeypatch):
    monkeypatch.setattr(templates, "SECONDS", 0.1)
    processor = load_processor(tiny_path)
    processor.chat_template = ENDLESS + processor.chat_template
    return processor


@pytest.mark.parametrize(
    "read",
    [
        lambda processor, _: render(processor, conversation("?")),
        lambda processor, _: opens_thinking(processor),
        lambda processor, scenes: find_bad_rows([scene.problem for scene in scenes], processor=processor),
        lambda processor, _: refuse_unread_prompts(
            processor, [{"id": "1", "prompt": [{"role": "user", "content": "?"}]}], "hint"
        ),
    ],
    ids=["a prompt", "the reward", "a check of many rows", "what the policy reads"],
)
def test_a_template_that_does_not_end_is_refused(endless, scenes, read):
    with pytest.raises(EndlessTemplateError, match=r"its chat template has not written a prompt after 0\.1 seconds"):
        read(endless, scenes)


def test_a_template_of_a_model_of_text_has_as_long(endless):
    endless.tokenizer.chat_template = endless.chat_template
    with pytest.raises(EndlessTemplateError):
        refuse_unread_prompts(endless.tokenizer, [{"prompt": [{"role": "user", "content": "?"}]}], "hint")


def test_what_was_set_before_is_set_again(processor):
    handler = signal.getsignal(signal.SIGVTALRM)
    assert "?" in apply_template(processor, conversation("?"))
    assert signal.getsignal(signal.SIGVTALRM) is handler
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_other_threads_render_too(processor):
    found = []
    thread = threading.Thread(target=lambda: found.append(apply_template(processor, conversation("?"))))
    thread.start()
    thread.join()
    assert "?" in found[0]
