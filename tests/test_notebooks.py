"Every library notebook runs from top to bottom, and what it shows is what stands in it."

from conftest import ROOT


def test_every_lesson_runs_and_is_current():
    from merhan.lessons import library, run_lessons, stale_cells

    found = run_lessons(library())
    failed = [error for _, error in found.values() if error]
    assert not failed, "\n".join(failed)
    stale = [message for path, (outputs, _) in found.items() for message in stale_cells(path, outputs)]
    assert not stale, "make lessons:\n" + "\n".join(stale)
    assert len(found) > 40 and (ROOT / "nbs/00_tour.ipynb").exists()


def test_a_stale_output_is_seen():
    "Another word or another number shows; a number in its tolerance, and a figure, do not."
    from merhan.lessons import differs

    said = lambda text: [dict(name="stdout", output_type="stream", text=text)]
    drawn = lambda svg: [dict(data={"image/svg+xml": svg}, output_type="display_data")]
    assert (
        differs(said("it is 0.500"), said("it was 0.500"))
        and differs(said("0.500"), said("0.700"))
        and differs(said("1"), drawn("a"))
    )
    assert not differs(said("it is 0.500"), said("it is 0.501")) and not differs(drawn("a"), drawn("b"))
