# advgrpo: `make train` shows adversarial RL on this machine, `make test` holds it to the truth.

SETTINGS ?= deploy/settings/emoji.yaml
ADVGRPO = .build/release/advgrpo
# One test at a time: many wait for processes and sockets, and on two cores waiting tests would starve the others.
SWIFT_TEST = swift test -c release -Xswiftc -enable-testing --disable-xctest --no-parallel

.PHONY: train test build dependencies check clean

train: build
	$(ADVGRPO) prepare-emoji --out data/emoji
	$(ADVGRPO) train $(SETTINGS)

test: dependencies
	dev/python-peers
	$(SWIFT_TEST)

build: dependencies
	swift build -c release --product advgrpo

dependencies:
	@dev/dependencies

check: dependencies
	dev/check

clean:
	rm -rf .build .venv-peers
