import pytest
from yarl import URL

from noah.kube.proxies import proxy_from


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, "https://a:6443", None),
        ({"HTTPS_PROXY": "http://p:3128"}, "https://a:6443", "http://p:3128"),
        ({"https_proxy": "p:3128"}, "https://a:6443", "http://p:3128"),
        ({"HTTPS_PROXY": "socks5://p"}, "https://a", "socks5://p"),
        ({"HTTPS_PROXY": "socks5h://u:s@p:1080"}, "https://a", "socks5://u:s@p:1080"),
        ({"HTTPS_PROXY": "https://u:s@p"}, "https://a", "https://u:s@p"),
        ({"HTTPS_PROXY": "http://p"}, "http://a", None),
        ({"HTTP_PROXY": "http://p"}, "http://a", "http://p"),
        ({"HTTP_PROXY": "http://p"}, "https://a", None),
        ({"HTTPS_PROXY": "http://p"}, "https://localhost:6443", None),
        ({"HTTPS_PROXY": "http://p"}, "https://127.8.9.1:6443", None),
        ({"HTTPS_PROXY": "http://p"}, "https://[::1]:6443", None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "*"}, "https://a", None),
        ({"HTTPS_PROXY": "http://p", "no_proxy": "x, a.example ,y"}, "https://a.example", None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "example"}, "https://a.example", None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "example"}, "https://anexample", "http://p"),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": ".example"}, "https://example", "http://p"),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": ".example"}, "https://a.example", None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "*.example"}, "https://a.example", None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "a:6443"}, "https://a:6443", None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "a:6443"}, "https://a:443", "http://p"),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "10.0.0.0/8"}, "https://10.1.2.3", None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "10.0.0.0/8"}, "https://11.1.2.3", "http://p"),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "10.1.2.3"}, "https://10.1.2.3:6443", None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "[fd00::1]:443"}, "https://[fd00::1]", None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "fd00::/8"}, "https://[fd00::1]:6443", None),
    ],
)
def test_the_environments_proxy_is_chosen_as_kubectl_does(
    environment: dict[str, str], url: str, proxy: str | None
) -> None:
    assert proxy_from(environment, URL(url)) == (URL(proxy) if proxy else None)


def test_a_proxy_of_another_kind_is_refused_by_its_name() -> None:
    with pytest.raises(ValueError, match="HTTPS_PROXY of the environment"):
        proxy_from({"HTTPS_PROXY": "ftp://p"}, URL("https://a"))
