#!/bin/sh
# Install Debian's Chromium and Japanese fonts, for the tests that drive the app in a browser.
set -eu
if command -v chromium >/dev/null && fc-list :lang=ja 2>/dev/null | grep -q .; then
    echo "Chromium and Japanese fonts are already installed: $(command -v chromium)"
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "apt-get not found: install Chromium and a Japanese font by hand, and set EVOVLM_CHROMIUM to the browser."
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "Not running as root. To install the browser: sudo apt-get install chromium fonts-noto-cjk"
    echo "Without it the browser tests of the app are skipped; all others run."
    exit 0
fi
apt-get update
DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium fonts-noto-cjk fontconfig
