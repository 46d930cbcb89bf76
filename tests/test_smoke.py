from tests.helpers import Pair


def test_hello(pair: Pair) -> None:
    assert pair.write("hello").code == 0
    done = pair.read()
    assert (done.code, done.out) == (0, b"hello\n"), done
