import { z } from 'zod'
import { parseRestUrl } from '../common/address.ts'
import { pathKey, portKey, secretKey } from '../common/config.ts'
import { eventKeys } from '../common/events/config.ts'
import { LOG_LEVELS } from '../common/log.ts'
import {
  PeerIdSchema,
  RateScheduleSchema,
  RateSchema,
  STRATEGIES,
  type StrategyName,
  StrategyNameSchema,
  TransferModeSchema,
} from '../common/schemas.ts'

const url = () =>
  z.string().superRefine((value, context) => {
    try {
      parseRestUrl(value)
    } catch (error) {
      context.addIssue({ code: 'custom', message: (error as Error).message })
    }
  })

/** Names of strategies, as a list or separated by commas. */
const strategies = () =>
  z
    .union([z.array(z.string()), z.string().transform((text) => text.split(',').map((name) => name.trim()))])
    .superRefine((names, context) => {
      const complain = (message: string) => context.addIssue({ code: 'custom', message })
      const strange = names.find((name) => !StrategyNameSchema.safeParse(name).success)
      if (names.length === 0) complain('it must not be empty')
      else if (strange !== undefined) complain(`"${strange}" is none of ${STRATEGIES.join(', ')}`)
      else if (new Set(names).size < names.length) complain('it names one twice')
    })
    .transform((names) => names as StrategyName[])

export const PeerConfig = z.strictObject({
  id: PeerIdSchema.describe("this peer's name in the network"),
  ip: z.string().default('0.0.0.0').describe('address to listen on'),
  port: portKey().default(8000).describe('REST port; 0 is any free one'),
  grpc_port: portKey().default(50051).describe('gRPC port; 0 is any free one'),
  shared_dir: pathKey().describe('the folder to share'),
  maestro_url: url()
    .optional()
    .describe('the Maestro; without it lookups go to the friends, the ring and the neighbours'),
  friend_peer_primary: url().optional().describe('REST URL of the friend that is asked first'),
  friend_peer_backup: url().optional().describe('REST URL of the friend that is asked next'),
  advertise_host: z
    .string()
    .min(1)
    .max(253)
    .optional()
    .describe(
      'host that others reach this peer at (default: ip, or where that is 0.0.0.0 the address it reaches the Maestro from)',
    ),
  state_dir: pathKey().optional().describe('where the catalog and the friend list are kept (default .state/ID)'),
  transfer: TransferModeSchema.default('real').describe('dummy (ECO) simulates every transfer and moves no byte'),
  token: secretKey(z.string().min(8).max(200))
    .optional()
    .describe("lets the user's own routes be used from other machines, as a bearer token"),
  accept_uploads: z.boolean().default(true).describe('whether other peers may push files into the shared folder'),
  reserve_bytes: z
    .int()
    .min(0)
    .default(64 * 1024 * 1024)
    .describe('free disk space that no download may touch, bytes'),
  upload_slots: z.int().min(1).max(1000).default(16).describe('pieces read and sent at the same time'),
  download_rate: RateSchema.optional().describe('bytes a second, or as in 10MB/s, 500KB, 80Mbit (default: no limit)'),
  upload_rate: RateSchema.optional().describe('bytes a second, or as in 10MB/s, 500KB, 80Mbit (default: no limit)'),
  rate_schedule: RateScheduleSchema.optional().describe(
    'JSON list of {from, to, days, download, upload}: other rates at times of the day',
  ),
  lookup_timeout_ms: z
    .int()
    .min(50)
    .max(60_000)
    .default(1000)
    .describe('bound on one question to the Maestro or a friend, ms'),
  strategies: strategies()
    .default([...STRATEGIES])
    .describe('who is asked where a file is, in this order: a list, or names separated by commas'),
  ring: z
    .boolean()
    .default(true)
    .describe('takes part in the ring, and passes on queries: keeps records of what others share, as they do for it'),
  ring_successors: z
    .int()
    .min(2)
    .max(64)
    .default(16)
    .describe('members of the ring that follow this one and are known to it: so many may die at once, less one'),
  stabilize_ms: z
    .int()
    .min(100)
    .max(600_000)
    .default(10_000)
    .describe('how often the ring is checked while nothing changes, ms; more often after a change'),
  settle_ms: z
    .int()
    .min(10)
    .max(60_000)
    .default(100)
    .describe('how long a file must have been left alone before it is hashed, ms'),
  rescan_s: z
    .int()
    .min(1)
    .max(86_400)
    .default(300)
    .describe('seconds between whole scans, should the system lose a change'),
  ...eventKeys,
  log_level: z.enum(LOG_LEVELS).default('info').describe(LOG_LEVELS.join(', ')),
})
export type PeerConfig = z.infer<typeof PeerConfig>
