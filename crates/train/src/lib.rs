//! SRCode: next-token training, SFT and PPO with token-level rewards.
