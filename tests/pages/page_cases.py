"""A report with pictures and hostile names, and a parser that minds that elements are closed."""

from html.parser import HTMLParser

import numpy as np

from bbnn_uq import Predictive, evaluate, pages

HOSTILE = [
    "<script>window.ran = 1</script>",
    "\"><img src=x onerror='window.ran = 2'>\n../../\u202eevil {{ 7 * 7 }} ]]>",
    "😀é" * 250,
]


def samples_like(seed, count, *, sharpness, networks=6, classes=3):
    """Probabilities of networks that agree the more the sharper they are, (S, N, C)."""
    generator = np.random.default_rng(seed)
    shared = generator.normal(size=(1, count, classes))
    logits = sharpness * (shared + 0.3 * generator.normal(size=(networks, count, classes)))
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=2, keepdims=True)


PICTURES = np.random.default_rng(5).random((60, 1, 8, 8))


def make_report(names=("near", "far"), *, class_names=None):
    """A report of 60 ID inputs against 40 of each set."""
    generator = np.random.default_rng(0)
    samples = samples_like(1, 60, sharpness=4.0)
    labels = np.where(
        generator.random(60) < 0.8,
        samples.mean(axis=0).argmax(axis=1),
        generator.integers(3, size=60),
    )
    return evaluate(
        Predictive.from_samples(samples, metadata={"dataset": "digits"}),
        labels,
        ood={
            name: Predictive.from_samples(samples_like(i, 40, sharpness=1.0))
            for i, name in enumerate(names)
        },
        mode=Predictive.from_probs(samples[0]),
        scores=["entropy", "mutual_information", "confidence"],
        inputs=PICTURES,
        ood_inputs=dict.fromkeys(names, PICTURES[:40]),
        class_names=class_names,
    )


def page_of(report, **changes):
    return pages.report_page(**(vars(report) | changes))


ID_ALONE = {"ood": {}, "against_networks": {}}
"""Changes that leave out most figures, which take most of the time."""


class Parsed(HTMLParser):
    """Elements that are opened, and that each is closed in order."""

    EMPTY = frozenset({"meta", "link", "img", "br"})

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.open, self.seen, self.text = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        assert len(dict(attributes)) == len(attributes), "an attribute twice"
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for seen, attributes in self.seen if seen == tag]
