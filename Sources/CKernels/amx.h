#pragma once

/// Asks the system for the tiles of AMX, for all threads of this process; 0 when the processor or the system has none.
int amx_is_permitted(void);
