/** Starts the fetching thread where the program runs from its TypeScript sources. */
import { register } from 'tsx/esm/api'

register()
await import('./fetch-worker.ts')
