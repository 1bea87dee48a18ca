"""Penn Treebank tokens of captions, without Java.

The field tokenizes captions and references with CoreNLP 3.4.1's PTBTokenizer, in lower case, and
drops punctuation (pycocoevalcap). This is the same tokenization in Python: at each place the
longest match of a list of rules, with the abbreviations that keep their full stop. It gives the
Java tokenizer's tokens for all captions of Clotho and AudioCaps (tests/test_ptb.py). `evaluate` and
`score` use the Java one where Java is installed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

# What pycocoevalcap drops. It lists brackets in upper case, but tokens are lower-case: they stay.
PUNCTUATION = frozenset(PUNCTUATIONS)

_ABBREVIATIONS = (
    "adj adm adv al ala alex apr ariz assn assoc asst atty aug ave bhd bldg blvd brig bros calif "
    "capt cf cie cmdr co col colo conn corp cos cpl ct dak dec dept det dr drs elec ens esq est "
    "etc ext feb fla fri ft ga gen gov govs hon inc ind insp intl invt jan jos jr jul jun kan kans "
    "ky lt ltd maj mar md messrs mfg mich minn mlle mme mo mon mont mr mrs ms msgr mt mtg natl neb "
    "nev nov oct okla penn pfc ph plc ppte ppty pres prof pte ptes pty ptys pvt rd rep reps rev rt "
    "sen sens sep sept seq sfc sgt spc sq sr st ste supt sys tel tenn thu thurs tue tues univ va "
    "vs vt wed wis wisc wm wyo"
)
_CAPITALISED = "Ark Az Del Ill La Mass Miss Ore Pa Tex Wash"  # in lower case these are words
_BEFORE_NUMBER = "art ca fig figs no nos op pp prop"  # these keep the stop before a digit

_LETTER = r"[^\W\d_]"
_ALNUM = r"[^\W_]"
_CURLY = r"[’\u0092]"
_APOSTROPHE = r"['’\u0092]"

Text = Callable[["re.Match[str]"], str]


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    text: Text  # the token, or several with spaces between


def _as_is(match: re.Match[str]) -> str:
    """The match, or its one group: what follows the group only makes the match longer."""
    return match.group(match.lastindex or 0)


def _straight(match: re.Match[str]) -> str:
    return re.sub(_APOSTROPHE, "'", match.group())


def _always(token: str) -> Text:
    return lambda match: token


def _rule(pattern: str, text: Text = _as_is, flags: int = 0) -> _Rule:
    return _Rule(re.compile(pattern, flags), text)


def _words(words: str) -> str:
    return "|".join(sorted(words.split(), key=len, reverse=True))


_CLITIC = r"(?:[msdMSD]|re|RE|ve|VE|ll|LL)"
_THING = rf"{_ALNUM}+(?:[-_/]{_ALNUM}+)*"
_SPLIT = "cannot gonna gotta gimme lemme wanna"  # after the third letter
_DROPPED_G = "dunkin somethin nothin ol"
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_SYMBOLS = {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"} | {
    "€": "$", "£": "#", "¢": "cents", "«": "``", "»": "''", "‹": "`", "›": "'"
}  # fmt: skip


def _unbracketed(match: re.Match[str]) -> str:
    return "".join(_BRACKETS.get(letter, letter) for letter in match.group())


# Among matches of one length, the first rule wins.
_RULES = (
    _rule(r"</?[A-Za-z!][^<>\s]*>"),
    _rule(
        rf"(?:{_words(_SPLIT)})(?!{_ALNUM})",
        lambda match: f"{match.group()[:3]} {match.group()[3:]}",
        re.IGNORECASE,
    ),
    _rule(
        rf"{_APOSTROPHE}(?:tis|twas)(?!{_ALNUM})",
        lambda match: f"'t {match.group()[2:]}",
        re.IGNORECASE,
    ),
    _rule(rf"({_LETTER}*?[^\W\dnN_])[nN]{_APOSTROPHE}[tT]"),
    _rule(rf"[nN]{_APOSTROPHE}[tT]{_ALNUM}*", _straight),
    _rule(rf"'{_CLITIC}(?!{_LETTER})|{_CURLY}{_CLITIC}", _straight),
    _rule(rf"({_LETTER}{_ALNUM}*){_APOSTROPHE}{_CLITIC}(?!{_LETTER})"),
    _rule(rf"(?:[dlnoDLNO]{_APOSTROPHE}{_LETTER}|[A-HJ-XZ]{_APOSTROPHE}[a-z]){_ALNUM}*"),
    _rule(rf"{_LETTER}+[aeiouy]{_APOSTROPHE}[aeiouA-Z]{_LETTER}*"),
    _rule(rf"({_LETTER}{_ALNUM}+\.)[,;]"),
    _rule(rf"(?:{_words(_DROPPED_G)}){_APOSTROPHE}", flags=re.IGNORECASE),
    _rule(rf"[mM]a{_APOSTROPHE}am|[cC]{_APOSTROPHE}mon"),
    _rule(rf"([yY]{_APOSTROPHE}){_LETTER}"),
    _rule(
        rf"{_APOSTROPHE}(?:n{_APOSTROPHE}|(?:n|em|till?|cause|\d0s)(?!{_ALNUM}))|{_CURLY}n",
        flags=re.IGNORECASE,
    ),
    _rule(rf"{_LETTER}{_ALNUM}*(?:[.!?]{_LETTER}{_ALNUM}*)*"),
    _rule(rf"{_LETTER}(?:\.{_LETTER})+\.(?!{_ALNUM})"),
    _rule(rf"{_LETTER}\."),
    _rule(rf"(?:{_words(_ABBREVIATIONS)})\.(?!{_ALNUM})", flags=re.IGNORECASE),
    _rule(rf"(?:{_words(f'{_CAPITALISED} {_CAPITALISED.upper()}')})\.(?!{_ALNUM})"),
    _rule(rf"(?:{_words(_BEFORE_NUMBER)})\.(?=\s*\d)", flags=re.IGNORECASE),
    _rule(r"[-+]?\d+(?:[.,:]\d+)*|[-+]?(?:[.,:]\d+)+"),
    _rule(rf"\d+(?:[.,:]\d+)*(?:[-/]{_ALNUM}+)+"),
    _rule(_THING),
    _rule(r"[A-Z]+(?:&[A-Z]+)+"),
    _rule(r"(?:https?|ftp)://[^\s\"<>|(){}]+[^\s\"<>|.!?(){},-]"),
    _rule(r"[A-Za-z0-9][\w.%+-]*@[\w-]+(?:\.[\w-]+)*"),
    _rule(r"[@#][A-Za-z]\w*"),
    _rule(r"\.{3,}|…|\.(?: \.){2,}", _always("...")),
    _rule(r"-{2,}|[–—―]", _always("--")),
    _rule(r"[?!]{2,}|\*{2,}|_{2,}|#{2,}"),
    _rule(rf"[<>]?[:;=][-o*']?(?:[(){{@|\[\]]|[DPdpO](?!{_ALNUM}))", _unbracketed),
    _rule(r"&(?:amp|AMP);", _always("&")),
    _rule(r"``|“|\"(?=[A-Za-z0-9$])", _always("``")),
    _rule(r"''|”|\"", _always("''")),
    _rule(r"[‘`]|'(?=[A-Za-z])", _always("`")),
    _rule(r"['’\u0092]", _always("'")),
    _rule(r"[][(){}]", _unbracketed),
    _rule(f"[{''.join(_SYMBOLS)}]", lambda match: _SYMBOLS[match.group()]),
    _rule(r"[^\s\x00-\x1f\x7f]"),
)

# Nearly all captions are lower-case words with commas and a full stop, and need none of the rules.
_PLAIN = re.compile(r"[A-Za-z]{2,}(?:,? (?:[A-Za-z]{2,}|a|A))*\.?")
_NOT_PLAIN = re.compile(
    rf"\b(?:{_words(_SPLIT)})\b|\b(?:{_words(f'{_ABBREVIATIONS} {_CAPITALISED}')})\.", re.IGNORECASE
)


def ptb_tokens(caption: str) -> list[str]:
    """The lower-case tokens of one caption, without punctuation; possibly none."""
    line = " ".join(caption.split())
    if _PLAIN.fullmatch(line) and not _NOT_PLAIN.search(line):
        return line.replace(",", "").removesuffix(".").lower().split(" ")
    return [token for token in _lex(line) if token not in PUNCTUATION]


def tokenize(captions: Iterable[str]) -> list[str]:
    """Each caption as its tokens joined by single spaces, which is what metrics read."""
    return [" ".join(ptb_tokens(caption)) for caption in captions]


def _lex(line: str) -> list[str]:
    """All tokens, in lower case: the longest match at each place."""
    tokens: list[str] = []
    at = 0
    while at < len(line):
        if line[at] == " ":
            at += 1
            continue
        matches = [(rule.pattern.match(line, at), rule) for rule in _RULES]
        found = [(match, rule) for match, rule in matches if match and match.end() > at]
        if not found:
            at += 1  # a control character
            continue
        match, rule = max(found, key=lambda pair: pair[0].end())
        tokens += rule.text(match).lower().split(" ")
        at = match.end(match.lastindex or 0)
    return tokens
