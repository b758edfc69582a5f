#!/bin/sh
# Install Debian's Chromium and Japanese fonts, for the tests that drive the app in a browser.
set -eu
if command -v chromium >/dev/null && fc-list :lang=ja 2>/dev/null | grep -q .; then
    echo "Chromium and Japanese fonts are here: $(command -v chromium)"
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "No apt-get here: install Chromium and a Japanese font by hand, and name the browser in EVOVLM_CHROMIUM."
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "Not root. To install the browser: sudo apt-get install chromium fonts-noto-cjk"
    echo "Without it the tests of the app in a browser are skipped; all others run."
    exit 0
fi
apt-get update
DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium fonts-noto-cjk fontconfig
