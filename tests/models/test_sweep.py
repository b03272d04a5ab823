"""A sweep draws from its space, ends what is hopeless, goes on where it was stopped, and says what it found."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("optuna")

import optuna

from ghostnote.models.config import PRESETS
from ghostnote.models.data.dataset import Sources
from ghostnote.models.data.recipe import RenderRecipe
from ghostnote.models.sweep import command, report, search, space, trials
from ghostnote.models.training.trainer import Recipe
from ghostnote.runtime.errors import InputError, UsageError

RANGES = {"x": space.Range(-1.0, 1.0), "n": space.Range(1, 4), "pair": space.Choices(([0, 1], [2, 3]))}
SETTINGS = {"steps": 3}


def parabola(values, folder, tell):
    for step in (1, 2, 3):
        tell(step, 10 - step + values["x"] ** 2 + values["n"])


def start(rendering="production") -> trials.Start:
    recipe = trials.short(Recipe(clips=2, tokens=24), 2)
    return trials.Start(PRESETS["tiny"], recipe, Sources(recipe=RenderRecipe.load(rendering)))


def quick_start(*_) -> trials.Start:
    """Its clips take little rendering."""
    simple = start("solo")
    rendering = simple.sources.recipe.without("backing", "layering", "room")
    return replace(simple, recipe=replace(simple.recipe, validation_every=2), sources=Sources(recipe=rendering))


def run(folder, count, function=parabola, settings=SETTINGS):
    """A search that is kept in its folder."""
    return searched(search.open_study(folder, settings, seed=0), folder, count, function)


def run_in_memory(folder, count, function=parabola):
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    return searched(study, folder, count, function)


def searched(study, folder, count, function):
    search.search(study, RANGES, count, folder, function, after=lambda trial: None)
    return study


def write(tmp_path, text):
    path = tmp_path / "space.toml"
    path.write_text(text)
    return path


@settings(max_examples=25)
@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.integers(-50, 50), st.integers(1, 50))
def test_draws_lie_in_their_ranges(low, width, first, count):
    ranges = {"a": space.Range(low, low + width), "b": space.Range(first, first + count), "c": space.Choices(("u", 1))}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(5):
        values = space.suggest(ranges, study.ask())
        assert low <= values["a"] <= low + width
        assert values["b"] in range(first, first + count + 1)
        assert isinstance(values["b"], int)
        assert values["c"] in ("u", 1)


def test_a_space_file_is_read_with_stages_of_the_render_recipe(tmp_path):
    path = write(
        tmp_path,
        "learning_rate = { low = 1e-4, high = 1e-2, log = true }\nlayers = { low = 2, high = 4 }\n"
        "codec.chance = { low = 0.0, high = 0.5 }\n[room]\nwet_db = { choices = [[-30, -3], [-20, 0]] }\n",
    )
    assert space.load(path, start().known()) == {
        "learning_rate": space.Range(1e-4, 1e-2, log=True),
        "layers": space.Range(2, 4),
        "codec.chance": space.Range(0.0, 0.5),
        "room.wet_db": space.Choices(([-30, -3], [-20, 0])),
    }


def test_the_shipped_space_is_one():
    ranges = space.load(space.DEFAULT, start().known())
    study = optuna.create_study()
    changed = start().changed(space.suggest(ranges, study.ask()))
    assert changed.recipe != start().recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat = { low = 1, high = 2 }", "unknown learning_rat; known: .*learning_rate"),
        ("room.wet = { choices = [1] }", "unknown room.wet; known: .*room.wet_db"),
        ("steps = { low = 1, high = 2 }", "unknown steps"),
        ("precision = { choices = ['no', 'bf16'] }", "unknown precision; known: "),
        ("distillation_weight = { low = 0.1, high = 1.0 }", "unknown distillation_weight; known: "),
        ("layers = 3", "expected { low, high }"),
        ("layers = { low = 3 }", "expected { low, high }"),
        ("layers = { choices = [] }", "expected { low, high }"),
        ("layers = { low = 3, high = 2 }", "low below high"),
        ("layers = { low = 'a', high = 'b' }", "two numbers"),
        ("learning_rate = { low = 0.0, high = 1.0, log = true }", "log needs low above 0"),
        ("", "no settings"),
    ],
)
def test_a_space_that_cannot_be_is_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(UsageError, match=message) as error:
        space.load(write(tmp_path, text), start().known())
    assert "\n" not in str(error.value)


def test_what_is_no_space_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        space.load(tmp_path / "missing.toml", [])
    with pytest.raises(InputError, match="not TOML"):
        space.load(write(tmp_path, "layers = {"), [])


def test_values_go_where_they_belong_and_validation_stays_the_same():
    values = {"learning_rate": 0.5, "layers": 3, "codec.chance": 0.9, "room.wet_db": [-20, 0], "clips": 4}
    base, changed = start(), start().changed(values)
    assert (changed.recipe.learning_rate, changed.config.layers) == (0.5, 3)
    assert (changed.sources.recipe["codec"]["chance"], changed.sources.recipe["room"]["wet_db"]) == (0.9, [-20, 0])
    assert changed.sources.validation_recipe == base.sources.recipe
    assert changed.recipe.clips * changed.recipe.validation_batches == trials.VALIDATION_CLIPS


@pytest.mark.parametrize("values", [{"warmup_steps": 0}, {"clips": 0}, {"heads": 0}, {"width": 33, "heads": 2}])
def test_values_that_make_no_run_are_no_failure(values):
    with pytest.raises(search.Infeasible):
        start().changed(values)


def test_an_interrupted_search_goes_on_with_the_same_values_in_the_same_folder(tmp_path):
    seen = []

    def interrupted(values, folder, tell):
        seen.append((values, folder))
        tell(1, 5.0)
        if len(seen) == 3:
            raise KeyboardInterrupt
        tell(2, 4.0)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, 5, interrupted)
    study = run(tmp_path, 5, interrupted)
    assert len(study.get_trials(states=search.FINISHED)) == 5
    assert seen[3] == seen[2]
    assert len({folder for _, folder in seen}) == 5
    assert len({str(values) for values, _ in seen}) == 5  # the sampler does not begin again with its first draws
    assert run(tmp_path, 5, interrupted).best_value == 4.0
    assert len(seen) == 6  # nothing left to do


def test_hopeless_diverged_and_impossible_trials_end_early(tmp_path):
    def unlucky(values, folder, tell):
        number = int(folder.name[-4:])
        if number == 6:
            raise search.Infeasible("width 5 is not a multiple of heads 2")
        tell(1, {4: 99.0, 5: float("nan")}.get(number, 1.0))
        assert number not in (4, 5)

    found = run(tmp_path, 7, unlucky).trials
    assert [t.state.name for t in found] == ["COMPLETE"] * 4 + ["PRUNED"] * 3
    notes = [t.user_attrs["note"] for t in found[4:]]
    assert "above the median" in notes[0]
    assert "diverged" in notes[1]
    assert "not a multiple" in notes[2]


def test_a_failure_that_is_a_bug_is_not_hidden(tmp_path):
    def broken(values, folder, tell):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        run(tmp_path, 2, broken)


def test_a_folder_of_another_sweep_is_refused(tmp_path):
    run(tmp_path, 1)
    with pytest.raises(UsageError, match=r"other settings \(steps\)"):
        run(tmp_path, 1, settings={"steps": 4})


def test_tables_and_picture(tmp_path):
    pytest.importorskip("matplotlib")
    study = run_in_memory(tmp_path, 10)
    report.write_tables(study, tmp_path)
    report.draw(study, tmp_path / "results.png")
    with (tmp_path / "results.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [int(row["trial"]) for row in rows] == list(range(10))
    assert {row["state"] for row in rows} <= {"complete", "pruned"}
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert lines[2].startswith(f"| {study.best_trial.number} | {study.best_value:.5g} |")
    assert len([line for line in lines if line.startswith("| ")]) == 11
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


def test_shares_of_importance_are_told_once_there_are_enough_trials(tmp_path):
    assert report.importances(run_in_memory(tmp_path, 3)) == {}

    def without_pruning(values, folder, tell):
        tell(1, values["x"] ** 2 + 10 * values["n"])

    shares = report.importances(run_in_memory(tmp_path, 60, without_pruning))
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["pair"] == min(shares.values())  # it changes nothing


def test_two_trials_of_two_steps_train_and_report(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trials, "VALIDATION_CLIPS", 2)
    monkeypatch.setattr(command, "_start", quick_start)
    path = write(
        tmp_path, "learning_rate = { low = 1e-4, high = 1e-2, log = true }\nalignment_weight = { choices = [0.05] }"
    )
    for count in (1, 2):  # the second call goes on
        command.sweep(tmp_path / "sweep", trials=count, steps=2, space=path)
    assert len(list((tmp_path / "sweep").glob("trial-*/best.pt"))) == 2
    with (tmp_path / "sweep" / "results.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["state"], row["steps"]) for row in rows] == [("complete", "2")] * 2
    assert all(float(row["onset_loss"]) > 0 for row in rows)
    assert "best: trial" in capsys.readouterr().out


def test_a_trial_that_was_trained_but_not_told_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "VALIDATION_CLIPS", 2)
    told = []
    for _ in range(2):
        quick_start().run({"learning_rate": 1e-3}, tmp_path, lambda step, loss: told.append((step, loss)))
    assert told[-1] == (2, min(loss for _, loss in told))


def test_what_is_no_study_is_told_and_a_name_is_no_query(tmp_path):
    search.open_study(tmp_path / "why? 1", {}, 0)
    assert (tmp_path / "why? 1" / search.FILE).is_file()
    (tmp_path / search.FILE).write_text("no database, but long enough to be looked at as one" * 20)
    with pytest.raises(InputError, match="not a sweep's database"):
        search.open_study(tmp_path, {}, 0)
