# advgrpo: `make train` shows adversarial RL on this machine, `make test` holds it to the truth.

SETTINGS ?= deploy/settings/emoji.yaml
ADVGRPO = .build/release/advgrpo
# One test at a time: many wait for processes and sockets, and on two cores waiting tests would starve the others.
SWIFT_TEST = swift test -c release -Xswiftc -enable-testing --disable-xctest --no-parallel

.PHONY: train test fuzz sanitize build dependencies check clean

train: build
	$(ADVGRPO) prepare-emoji --out data/emoji
	$(ADVGRPO) train $(SETTINGS)

test: dependencies
	dev/python-peers
	$(SWIFT_TEST)

# A minute of damaged input for every reader and socket; FUZZ_SECONDS=3600 for an hour.
FUZZ_SECONDS ?= 60
fuzz: dependencies
	ADVGRPO_FUZZ_SECONDS=$(FUZZ_SECONDS) $(SWIFT_TEST) --filter FuzzTests

build: dependencies
	swift build -c release --product advgrpo

dependencies:
	@dev/dependencies

check: dependencies
	dev/check

clean:
	rm -rf .build .venv-peers
