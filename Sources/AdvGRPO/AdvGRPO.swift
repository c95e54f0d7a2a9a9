// AdvGRPO
