import torch

from s2igan.models.relation import Relation, RelationSupervisor


def test_classes():
    assert [relation.name for relation in sorted(Relation)] == ["IDENTICAL", "POSITIVE", "NEGATIVE"]
    assert [int(relation) for relation in sorted(Relation)] == [0, 1, 2]


def test_option_n_logits():
    with torch.device("meta"):
        sizes = {n: sum(p.numel() for p in RelationSupervisor(n_logits=n).parameters()) for n in (3, 4)}
    assert sizes == {3: 263_044 - 129, 4: 263_044}  # the reference has four
    features = torch.randn(2, 5)
    assert RelationSupervisor(5, 6).eval()(features, features).shape == (2, 3)
    assert RelationSupervisor(5, 6, n_logits=4).eval()(features, features).shape == (2, 4)


def test_the_ground_truth_comes_first():
    model = RelationSupervisor(5, 6).eval()
    real, other = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(model(real, other), model(other, real))
    with torch.no_grad():
        model.hidden.weight[:, :5] = 0
        torch.testing.assert_close(model(real, other), model(2 * real, other))
