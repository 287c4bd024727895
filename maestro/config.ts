import { z } from 'zod'
import { pathKey, portKey } from '../common/config.ts'
import { eventKeys } from '../common/events/config.ts'
import { LOG_LEVELS } from '../common/log.ts'

export const MaestroConfig = z.strictObject({
  id: z.string().min(1).max(64).default('maestro').describe("this Maestro's name, shown to people"),
  ip: z.string().min(1).default('0.0.0.0').describe('address to listen on'),
  port: portKey().default(9000).describe('REST port; 0 is any free one'),
  database: pathKey().describe('SQLite file that keeps the directory; made where it is missing'),
  lease_ms: z
    .int()
    .min(100)
    .max(3_600_000)
    .default(15_000)
    .describe('how long a peer is taken for alive after it was last heard, ms'),
  max_files_per_peer: z.int().min(1).max(100_000_000).default(1_000_000).describe('files that one peer may offer'),
  max_peers: z.int().min(1).max(10_000_000).default(100_000).describe('peers that may be registered at the same time'),
  headers_timeout_ms: z
    .int()
    .min(100)
    .max(600_000)
    .default(10_000)
    .describe('how long a client may take to send the head of a request, ms'),
  events_database: pathKey()
    .optional()
    .describe(
      'SQLite file that keeps events, with one of mailboxes beside it (default: beside the database, ending in .events.db)',
    ),
  ...eventKeys,
  log_level: z.enum(LOG_LEVELS).default('info').describe(LOG_LEVELS.join(', ')),
})
export type MaestroConfig = z.infer<typeof MaestroConfig>
