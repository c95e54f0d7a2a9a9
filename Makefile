# advgrpo: `make train` shows adversarial RL on this machine, `make test` holds it to the truth.

SETTINGS ?= deploy/settings/emoji.yaml
ADVGRPO = .build/release/advgrpo
# One test at a time: many wait for processes and sockets, and on two cores waiting tests would starve the others.
SWIFT_TEST = swift test -c release -Xswiftc -enable-testing --disable-xctest --no-parallel

.PHONY: train test fuzz chaos sanitize build dependencies check clean

train: build
	@dev/dependencies ruby-gemojione
	$(ADVGRPO) prepare-emoji
	$(ADVGRPO) prepare-emoji --style emojione
	$(ADVGRPO) train $(SETTINGS)

test: dependencies
	dev/python-peers
	$(SWIFT_TEST)

# A minute of damaged input for every reader and socket, and one of wrong meaning for every role; FUZZ_SECONDS=3600 for an hour.
FUZZ_SECONDS ?= 60
fuzz: dependencies
	ADVGRPO_FUZZ_SECONDS=$(FUZZ_SECONDS) $(SWIFT_TEST) --filter FuzzTests

# Kills, stops, power cuts, interruptions and faulty wires: a run a seed. CHAOS_FIRST=17 CHAOS_SEEDS=1 replays one.
CHAOS_SEEDS ?= 200
CHAOS_FIRST ?= 0
chaos: dependencies
	ADVGRPO_CHAOS_SEEDS=$(CHAOS_SEEDS) ADVGRPO_CHAOS_FIRST=$(CHAOS_FIRST) $(SWIFT_TEST) --filter ChaosTests

# ThreadSanitizer and AddressSanitizer over messages, sockets, roles and whole runs.
sanitize: dependencies
	dev/sanitize

build: dependencies
	swift build -c release --product advgrpo

dependencies:
	@dev/dependencies

check: dependencies
	dev/check

clean:
	rm -rf .build .venv-peers
