"""What every implementation of a protocol must do, and small working servers to try it on."""

import pytest

pytest.register_assert_rewrite("tests.contract.store_contract")
