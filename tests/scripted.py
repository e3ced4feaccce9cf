"""A conversation that says what a script has, for tests of protocols on models that were never trained for them."""

from lmms_awares.engine.conversation import Conversation
from lmms_awares.engine.turns import Reply
from lmms_awares.tokens import VisualTokens


class Script(Conversation):
    """A conversation whose rows say given replies: each token in turn gets the highest logit of a real forward pass.

    `lines`: one list of replies (token ids) per sample still to come; None for an id leaves that token to the model.
    `made`: every conversation so far, each with its rounds' replies, logits included, in `said`.
    `quick`: replies that leave nothing to the model are said without asking it.
    """

    lines: list
    made: list
    quick: bool

    def __init__(self, model, prompts, **options):
        super().__init__(model, prompts, **options)
        self.script = [type(self).lines.pop(0) for _ in prompts]
        self.said = []
        self.made.append(self)

    def continue_rows(self, rows, turns):
        self.script = [self.script[row] for row in rows]
        super().continue_rows(rows, turns)

    def generate(self, max_new_tokens, **options):
        lines = [script[len(self.said)] for script in self.script]
        if self.quick and all(None not in ids for ids in lines):
            self.say(lines)
            columns = (self._ids.shape[1],) * self._model.config.text_config.num_hidden_layers
            shown = [VisualTokens(n, (n,), (n,), columns) for n in self._is_image.sum(1).tolist()]
            self.said.append([Reply(ids, True, True, 0.0, visual) for ids, visual in zip(lines, shown, strict=True)])
            return self.said[-1]
        original, step = self._model.forward, iter(range(max_new_tokens))

        def forward(*args, **kwargs):
            out, now = original(*args, **kwargs), next(step)
            for row, ids in enumerate(lines):
                if now < len(ids) and ids[now] is not None:
                    out.logits[row, -1, ids[now]] = 1e4
            return out

        self._model.forward = forward
        try:
            self.said.append(super().generate(max_new_tokens, return_logits=True, **options))
        finally:
            self._model.forward = original
        return self.said[-1]

    @property
    def ids(self):
        """What row 0 holds, pads and holes left out."""
        return self._ids[0][self._mask[0] == 1].tolist()
