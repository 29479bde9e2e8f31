import torch

from hanpaca.model.new_rows import mean_of_all_rows, normal_rows, rescaled


def test_normal_rows_have_the_mean_and_covariance_of_the_table() -> None:
    torch.manual_seed(0)
    mixing = torch.tensor([[2.0, 0.0, 0.0], [1.0, 0.5, 0.0], [0.0, 0.3, 0.1]])
    table = torch.randn(500, 3) @ mixing.T + torch.tensor([1.0, -2.0, 0.5])
    rows = normal_rows(table, 20_000, seed=1)
    torch.testing.assert_close(rows.mean(dim=0), table.mean(dim=0), atol=0.05, rtol=0)
    torch.testing.assert_close(rows.T.cov(), table.T.cov(correction=0), atol=0.15, rtol=0)
    assert torch.equal(rows[:50], normal_rows(table, 20_000, seed=1)[:50])
    assert not torch.equal(rows[:50], normal_rows(table, 20_000, seed=2)[:50])


def test_mean_of_all_is_one_row_again_and_again() -> None:
    table = torch.tensor([[0.0, 2.0], [2.0, 4.0]], dtype=torch.bfloat16)
    assert torch.equal(mean_of_all_rows(table, 3), torch.tensor([[1.0, 3.0]] * 3))


def test_rescaled_rows_are_as_long_as_the_median_row_and_point_where_they_did() -> None:
    table = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 30.0]])
    rows = rescaled(torch.tensor([[3.0, 4.0], [0.0, 0.5], [0.0, 0.0]]), table)
    torch.testing.assert_close(rows, torch.tensor([[1.2, 1.6], [0.0, 2.0], [0.0, 0.0]]))
