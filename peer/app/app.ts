import type { Registry } from 'prom-client'
import { addAsyncApi } from '../../common/events/asyncapi.ts'
import type { EventFeed } from '../../common/events/feed.ts'
import { addEventRoute } from '../../common/events/feed-route.ts'
import { type App, createApp, documented } from '../../common/http.ts'
import type { Logger } from '../../common/log.ts'
import type { LookupStep, NetworkLevel, PeerInfo } from '../../common/schemas.ts'
import type { Follows } from '../follow/follows.ts'
import type { Friends } from '../friends.ts'
import type { Limits } from '../limits.ts'
import type { LocalFiles, Self } from '../locate/local.ts'
import type { Locator } from '../locate/locator.ts'
import type { Mailbox } from '../mailbox/mailbox.ts'
import { addFileRoutes, type ServedFiles } from './files.ts'
import { addFollowRoutes } from './follows.ts'
import { addFriendRoutes } from './friends.ts'
import { type GuardOptions, ownUserOnly } from './guard.ts'
import { addInfoRoutes } from './info.ts'
import { addLimitRoutes } from './limits.ts'
import { addLocateRoutes } from './locate.ts'
import { addMailboxRoutes } from './mailbox.ts'
import { addOverlayRoutes, type OverlayRouteDeps } from './overlay.ts'
import { addSwarmRoutes, type SwarmRouteDeps } from './swarms.ts'
import { addTransferRoutes, type Transfers } from './transfers.ts'

export interface PeerAppDeps {
  files: ServedFiles & LocalFiles
  friends: Friends
  locator: Locator
  limits: Limits
  transfers: Transfers
  swarms: SwarmRouteDeps
  overlay: OverlayRouteDeps
  events: { feed: EventFeed; mailbox: Mailbox; follows: Follows }
  /** of the names at a RabbitMQ, for the document of events */
  eventsPrefix: string
  /** at which level the network works, as it was known, and as the steps of a lookup tell */
  level: (steps: readonly LookupStep[]) => NetworkLevel
  self: () => Self
  info: () => PeerInfo
  log: Logger
  metrics: Registry
}

/** Read beyond the shared files. */
const OWN_USER = [
  '/transfers',
  '/transfers/*',
  '/friends',
  '/limits',
  '/uploads',
  '/ring',
  '/events',
  '/mailbox',
  '/follows',
]

/** The agent's REST API. */
export function createPeerApp(deps: PeerAppDeps, options: GuardOptions): App {
  const title = 'Peer agent'
  const description =
    'Shares a folder with the network and fetches files from other peers. Routes that change something, or read beyond the shared files, are for the user of this machine: from loopback or with the token.'
  const ownUser = ownUserOnly(options)
  const app = createApp({
    title,
    description,
    log: deps.log,
    metrics: deps.metrics,
    guard: (app) => {
      for (const path of OWN_USER) app.use(path, ownUser)
      app.on(['PUT', 'POST', 'PATCH', 'DELETE'], '*', ownUser)
    },
    streams: (method, path) => method === 'PUT' && path.startsWith('/files/'),
  })
  addInfoRoutes(app, deps.info)
  addFileRoutes(app, deps)
  addLocateRoutes(app, deps)
  addFriendRoutes(app, deps.friends)
  addOverlayRoutes(app, deps.overlay)
  addLimitRoutes(app, deps.limits)
  addTransferRoutes(app, deps.transfers)
  addSwarmRoutes(app, deps.swarms)
  addEventRoute(app, deps.events)
  addMailboxRoutes(app, deps.events.mailbox)
  addFollowRoutes(app, deps.events.follows)
  addAsyncApi(app, { prefix: deps.eventsPrefix })
  return documented(app, { title, description })
}
