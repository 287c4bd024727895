import { busContract } from '../common/events/bus.contract.ts'
import { openMaestroCarrier } from './events-bus.fixture.ts'

busContract('the Maestro', openMaestroCarrier)
