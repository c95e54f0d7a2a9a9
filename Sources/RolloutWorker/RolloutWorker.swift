// RolloutWorker
