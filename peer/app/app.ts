import type { Registry } from 'prom-client'
import { type App, createApp, documented } from '../../common/http.ts'
import type { Logger } from '../../common/log.ts'
import type { LookupStep, NetworkLevel, PeerInfo } from '../../common/schemas.ts'
import type { Friends } from '../friends.ts'
import type { Limits } from '../limits.ts'
import type { LocalFiles, Self } from '../locate/local.ts'
import type { Locator } from '../locate/locator.ts'
import { addFileRoutes, type ServedFiles } from './files.ts'
import { addFriendRoutes } from './friends.ts'
import { type GuardOptions, ownUserOnly } from './guard.ts'
import { addInfoRoutes } from './info.ts'
import { addLimitRoutes } from './limits.ts'
import { addLocateRoutes } from './locate.ts'
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
  /** at which level the network works, as it was known, and as the steps of a lookup tell */
  level: (steps: readonly LookupStep[]) => NetworkLevel
  self: () => Self
  info: () => PeerInfo
  log: Logger
  metrics: Registry
}

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
      for (const path of ['/transfers', '/transfers/*', '/friends', '/limits', '/uploads', '/ring'])
        app.use(path, ownUser)
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
  return documented(app, { title, description })
}
