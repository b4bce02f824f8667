"""What a mirror shows and tells, response by response."""

from collections.abc import Iterable

from nofx_grpc.client import Revision
from nofx_grpc.client.config_view import MirrorState
from nofx_grpc.v1 import models_pb2
from nofx_grpc.v1.traders_pb2 import Trader, TraderConfig, TraderKey, WatchTraderConfigsResponse

SECRET = "sk-mirror-plaintext-41d0"


def config(id: str, name: str = "first", revision: int = 1) -> TraderConfig:
    credentials = models_pb2.ModelCredentials(api_key=SECRET)
    return TraderConfig(
        trader=Trader(user_id="ada", id=id, name=name), revision=revision, model_credentials=credentials
    )


def response(revision: int, *configs: TraderConfig, removed: Iterable[str] = ()) -> WatchTraderConfigsResponse:
    keys = [TraderKey(user_id="ada", trader_id=id) for id in removed]
    return WatchTraderConfigsResponse(revision=revision, history_id="h", configs=configs, removed=keys)


def shown(state: MirrorState) -> dict[str, str]:
    return {id: config.trader.name for (_, id), config in state.view.items()}


def told(state: MirrorState) -> tuple[list[str], list[str]]:
    """The ids of what was removed, and the names of what has changed."""
    news = state.tell()
    return [config.trader.id for config in news.removed], [config.trader.name for config in news.changed]


def holding(*configs: TraderConfig) -> MirrorState:
    """A mirror that holds these, as was told."""
    state = MirrorState()
    assert state.receive(response(1, *configs))
    state.tell()
    return state


def test_a_revision_is_shown_as_a_whole() -> None:
    state = holding(config("a"), config("b"), config("c"))
    assert not state.receive(response(0, config("a", "second")))
    assert not state.receive(response(0, removed=["b"]))
    assert shown(state) == {"a": "first", "b": "first", "c": "first"} and not state.has_untold
    assert state.receive(response(2, config("c", "second")))
    assert shown(state) == {"a": "second", "c": "second"}
    assert state.view.revision == Revision("h", 2)


def test_a_view_stays_as_it_is() -> None:
    state = holding(config("a"))
    before = state.view
    state.receive(response(2, config("a", "second"), config("b")))
    assert {id: each.trader.name for (_, id), each in before.items()} == {"a": "first"} and len(before) == 1
    assert before.revision == Revision("h", 1)


def test_what_was_received_of_a_stream_that_broke_is_forgotten() -> None:
    state = holding(config("a"))
    state.receive(response(0, config("a", "second"), removed=["b"]))
    state.begin(anew=False)
    state.receive(response(3, config("b")))
    assert shown(state) == {"a": "first", "b": "first"}


def test_a_trader_is_removed_and_comes_back_within_a_revision() -> None:
    state = holding(config("a"))
    state.receive(response(0, removed=["a"]))
    state.receive(response(2, config("a", "second")))
    assert shown(state) == {"a": "second"} and told(state) == ([], ["second"])
    state.receive(response(0, config("a", "third")))
    state.receive(response(3, removed=["a"]))
    assert shown(state) == {} and told(state) == (["a"], [])


def test_an_initial_state_takes_the_place_of_everything() -> None:
    state = holding(config("a"), config("b"), config("c"))
    state.begin(anew=True)
    state.receive(response(0, config("a", revision=9)))
    assert len(state.view) == 3
    state.receive(response(9, config("c", "second", 9), config("d", "new", 9)))
    assert shown(state) == {"a": "first", "c": "second", "d": "new"}
    assert told(state) == (["b"], ["second", "new"])


def test_an_initial_state_without_anything_removes_everything() -> None:
    state = holding(config("a"))
    state.begin(anew=True)
    state.receive(response(9))
    assert shown(state) == {} and told(state) == (["a"], [])


def test_what_is_sent_again_and_has_not_changed_is_not_told() -> None:
    state = holding(config("a"))
    before = state.view["ada", "a"]
    state.receive(response(5, config("a", revision=5)))
    assert told(state) == ([], []) and state.view["ada", "a"] is before
    assert state.view.revision == Revision("h", 5)


def test_what_changed_several_times_is_told_once_as_it_is_now() -> None:
    state = holding(config("a"))
    state.receive(response(2, config("a", "second")))
    state.receive(response(3, config("a", "third"), config("b")))
    state.receive(response(4, removed=["b"]))
    assert told(state) == ([], ["third"])
    assert told(state) == ([], [])


def test_a_removal_that_concerns_nobody_is_not_told() -> None:
    state = holding(config("a"))
    state.receive(response(2, removed=["never seen"]))
    assert told(state) == ([], []) and shown(state) == {"a": "first"}


def test_a_bookmark_confirms_the_view_and_makes_it_young() -> None:
    now = [10.0]
    state = MirrorState(clock=lambda: now[0])
    assert state.age == float("inf")
    state.receive(response(1, config("a")))
    now[0] += 7
    assert state.age == 7
    state.receive(response(0, config("a", "second")))
    assert state.age == 7, "a part of a revision does not make the view current"
    state.receive(response(2))
    assert state.age == 0 and shown(state) == {"a": "second"}
    now[0] += 3
    assert state.receive(response(8)) and state.age == 0
    assert state.view.revision == Revision("h", 8) and told(state) == ([], ["second"])


def test_a_view_is_a_mapping_that_does_not_show_what_it_holds() -> None:
    state = holding(config("a"))
    assert list(state.view) == [("ada", "a")] and ("ada", "b") not in state.view
    for each in (state.view, state.view.items(), state.view.values(), state, state.view.keys()):
        assert SECRET not in repr(each) + str(each)
    assert repr(state.view) == "<1 configurations as of Revision(history='h', number=1)>"
