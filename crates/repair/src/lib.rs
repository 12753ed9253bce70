//! Vul2Safe: analyse, repair, criticise, verify, and write implicit prompts.
