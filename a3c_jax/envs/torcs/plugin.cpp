// A driver for TORCS 1.3.7 that does what Python says, and shows what it sees.
//
// One library with two tasks in the same process, a race of TORCS on the
// console, which opens no window and does not wait for real time:
//  1. It is a robot module. TORCS calls `Drive` every 20 ms of simulated time.
//     After every step it draws a picture with TORCS' own graphics module, into
//     a buffer of EGL, and waits for one byte from Python: 's' for a step, 'r'
//     for a reset. One byte answers when the step is done.
//  2. It is loaded first (LD_PRELOAD), to answer for freeglut, which would stop
//     the program where there is no window.
// When the process ends that wanted this, this one ends too, and its folder is
// removed.
//
// It becomes a part of TORCS, which is GPL software, so it has that licence.
// Nothing else of a3c_jax is linked to TORCS or depends on this file.
//
// SPDX-License-Identifier: GPL-2.0-or-later

#include <EGL/egl.h>
#include <EGL/eglext.h>
#include <GL/gl.h>
#include <dlfcn.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>

#include "torcs_1_3_7.h"

namespace {

constexpr int kMostCars = 16;
constexpr int kMostPoints = 8192;
constexpr float kBetweenCars = 15;  // m along the track, at the start
constexpr float kAboveGround = 0.2;  // m, from where cars fall at the start
constexpr double kPhysicsSeconds = 0.002;
constexpr int kSettling = 500;  // Updates of the physics, at rest.
constexpr char kName[] = "a3c_jax";

struct Point {
  float x, y;     // m, of the middle of the track
  float heading;  // rad
  float curve;    // 1/m, positive to the left
  float width;    // m
};

// Python's view of this is in game.py.
struct Shared {
  // What Python asks for, before the start.
  int32_t bytes;
  int32_t width, height;  // Pixels.
  int32_t repeat;         // Calls of `Drive` per step.
  int32_t cars;
  // Likewise, before each byte.
  float steer, accelerate, brake;
  float start;  // Share of a lap.
  // What the plugin tells of the track, before its first byte.
  int32_t points;
  float length;
  // Likewise of our car, before each byte.
  float speed;  // m/s, forward
  float angle;  // rad, of the track against the car; left is positive
  float to_middle;  // m, positive on the left
  float track_width;
  float distance;  // m from the start line
  float x, y;
  float damage;
  int32_t gear;
  float engine_speed;
  float unused;
  double time;  // s
  float others[kMostCars];  // m from the start line, of the other cars
  Point line[kMostPoints];
  unsigned char picture[];
};

Shared* shared;
int talk = -1;
torcs::Track* track;
torcs::Graphics graphics;
torcs::Race* race;
int ticks_left = 0;
bool ready = false;

[[noreturn]] void Fail(const char* what) {
  fprintf(stderr, "a3c_jax: %s\n", what);
  fflush(stderr);
  _exit(3);
}

void* Find(const char* name) {
  void* found = dlsym(RTLD_DEFAULT, name);
  if (!found) Fail((std::string("TORCS has no ") + name).c_str());
  return found;
}

template <typename Function>
Function Get(const char* name) {
  return reinterpret_cast<Function>(Find(name));
}

int Handle(pid_t process) { return syscall(SYS_pidfd_open, process, 0); }

void WaitFor(int handle) {
  pollfd wait = {handle, POLLIN, 0};
  while (poll(&wait, 1, -1) < 1) {
  }
}

// Waits for the process that wanted this to end, and ends this one.
void EndWith(pid_t parent, std::string folder) {
  const int handle = Handle(parent);
  if (handle < 0 && errno != ESRCH) {
    Fail((std::string("pidfd_open: ") + strerror(errno)).c_str());
  }
  if (handle >= 0 && getppid() == parent) WaitFor(handle);  // It has not ended.
  std::error_code ignored;
  if (!std::filesystem::exists(folder, ignored)) _exit(0);
  // TORCS is still at its start. Another process removes the folder, or TORCS
  // might write into it in the meantime.
  const pid_t torcs = getpid();
  const int own = Handle(torcs);
  if (fork() > 0) {
    for (;;) pause();
  }
  if (getpid() != torcs) {
    kill(torcs, SIGKILL);
    WaitFor(own);
  }
  std::filesystem::remove_all(folder, ignored);
  _exit(0);
}

__attribute__((constructor)) void Begin() {
  const char* given = getenv("A3C_JAX_TORCS");
  if (!given) return;
  int parent, memory, read = 0;
  if (sscanf(given, "%d,%d,%d,%n", &parent, &talk, &memory, &read) != 3 ||
      !read) {
    Fail("A3C_JAX_TORCS is not understood");
  }
  std::thread(EndWith, parent, std::string(given + read)).detach();
  struct stat file;
  if (fstat(memory, &file)) Fail("no shared memory");
  void* mapped = mmap(nullptr, file.st_size, PROT_READ | PROT_WRITE, MAP_SHARED,
                      memory, 0);
  if (mapped == MAP_FAILED) Fail("cannot map the shared memory");
  shared = static_cast<Shared*>(mapped);
  const auto pixels = 3 * shared->width * shared->height;
  if (shared->bytes != file.st_size ||
      sizeof(Shared) + pixels != size_t(file.st_size)) {
    Fail("another layout of the shared memory; compile the plugin again");
  }
  // No process that TORCS starts is to do this.
  unsetenv("A3C_JAX_TORCS");
  unsetenv("LD_PRELOAD");
}

// Angle of the middle of the track at a position.
float Heading(const torcs::Position& position) {
  const torcs::Segment& segment = *position.segment;
  if (segment.type == torcs::kStraight) return segment.angle;
  if (segment.type == torcs::kLeft) return segment.angle + position.to_start;
  return segment.angle - position.to_start;
}

// The place `distance` m from the start line and `left` m from the middle.
torcs::Position At(float distance, float left) {
  distance = std::fmod(distance, track->length);
  torcs::Segment* segment = track->segment;
  while (distance < segment->start) segment = segment->previous;
  torcs::Position position = {};
  position.segment = segment;
  position.type = torcs::kWholeWidth;
  position.to_start = distance - segment->start;
  if (segment->type != torcs::kStraight) position.to_start /= segment->radius;
  position.to_middle = left;
  position.to_right = segment->width / 2 + left;
  position.to_left = segment->width / 2 - left;
  return position;
}

void ToWorld(torcs::Position& position, float* x, float* y) {
  static const auto to_world =
      Get<void (*)(torcs::Position*, float*, float*, int)>(
          "_Z19RtTrackLocal2GlobalP10tTrkLocPosPfS1_i");
  to_world(&position, x, y, torcs::kFromRight);
}

void TellTrack() {
  shared->length = track->length;
  shared->points =
      std::min(kMostPoints, std::max(1, int(track->length / 5)));
  for (int i = 0; i < shared->points; ++i) {
    Point& point = shared->line[i];
    torcs::Position position = At(track->length * i / shared->points, 0);
    const torcs::Segment& segment = *position.segment;
    ToWorld(position, &point.x, &point.y);
    point.heading = Heading(position);
    point.curve = segment.type == torcs::kStraight ? 0
                  : segment.type == torcs::kLeft   ? 1 / segment.radius
                                                   : -1 / segment.radius;
    point.width = segment.width;
  }
}

void OpenBuffer() {
  const auto display_of = reinterpret_cast<PFNEGLGETPLATFORMDISPLAYEXTPROC>(
      eglGetProcAddress("eglGetPlatformDisplayEXT"));
  EGLDisplay display = EGL_NO_DISPLAY;
  if (display_of) {
    display = display_of(EGL_PLATFORM_SURFACELESS_MESA,
                         reinterpret_cast<void*>(EGL_DEFAULT_DISPLAY), nullptr);
  }
  EGLint major, minor;
  if (display == EGL_NO_DISPLAY ||
      !eglInitialize(display, &major, &minor) ||
      !eglBindAPI(EGL_OPENGL_API)) {
    Fail("no EGL without a screen; is libegl-mesa0 installed?");
  }
  const EGLint wanted[] = {EGL_SURFACE_TYPE,    EGL_PBUFFER_BIT,
                           EGL_RED_SIZE,        8,
                           EGL_GREEN_SIZE,      8,
                           EGL_BLUE_SIZE,       8,
                           EGL_ALPHA_SIZE,      8,
                           EGL_DEPTH_SIZE,      24,
                           EGL_RENDERABLE_TYPE, EGL_OPENGL_BIT,
                           EGL_NONE};
  EGLConfig config;
  EGLint count = 0;
  if (!eglChooseConfig(display, wanted, &config, 1, &count) || !count) {
    Fail("no OpenGL in EGL; is libgl1-mesa-dri installed?");
  }
  const EGLint size[] = {EGL_WIDTH, shared->width, EGL_HEIGHT, shared->height,
                         EGL_NONE};
  EGLSurface surface = eglCreatePbufferSurface(display, config, size);
  EGLContext context =
      eglCreateContext(display, config, EGL_NO_CONTEXT, nullptr);
  if (!eglMakeCurrent(display, surface, surface, context)) {
    Fail("EGL makes no context");
  }
}

void LoadGraphics(torcs::Situation* situation) {
  OpenBuffer();
  // Or the limit for textures is 0, and loading them never ends.
  Get<void (*)()>("_Z15checkGLFeaturesv")();
  const std::string path = std::string(Get<char* (*)()>("_Z9GetLibDirv")()) +
                           "modules/graphic/ssggraph.so";
  torcs::Modules* modules = nullptr;
  const auto load = Get<int (*)(unsigned, const char*, torcs::Modules**)>(
      "_Z9GfModLoadjPcPP7ModList");
  if (load(0, path.c_str(), &modules)) Fail("ssggraph.so does not load");
  const torcs::Module& module = modules->modules[0];
  module.start(module.index, &graphics);
  graphics.load_track(track);
  graphics.open(0, 0, shared->width, shared->height, 0,
                Get<void* (*)()>("_Z16GfuiScreenCreatev")());
  graphics.load_cars(situation);
}

void Draw(torcs::Situation* situation) {
  graphics.draw(situation);
  glPixelStorei(GL_PACK_ALIGNMENT, 1);
  glReadBuffer(GL_BACK);
  glReadPixels(0, 0, shared->width, shared->height, GL_RGB, GL_UNSIGNED_BYTE,
               shared->picture);
}

// Puts all cars at rest: ours where Python wants it, the others before it.
void Place(torcs::Car* ours, torcs::Situation* situation) {
  static const auto height = Get<float (*)(torcs::Position*)>(
      "_Z14RtTrackHeightLP10tTrkLocPos");
  situation->time = 0;  // Else no two episodes are alike.
  race->physics.stop();
  race->physics.start(situation->cars_count, track, race->fuel_factor,
                      race->damage_factor);
  int ahead = 0;
  for (int i = 0; i < situation->cars_count; ++i) {
    torcs::Car* car = situation->cars[i];
    float distance = shared->start * track->length, left = 0;
    if (car != ours) {
      // In turn on the left and on the right.
      left = (ahead % 2 ? -1 : 1) * track->segment->width / 4;
      distance += kBetweenCars * ++ahead;
    }
    memset(&car->of_car, 0, sizeof car->of_car);
    memset(&car->of_centre, 0, sizeof car->of_centre);
    memset(&car->steer, 0, torcs::kControls);
    car->position = At(distance, left);
    car->damage = car->state = car->gear = 0;
    car->engine_speed = 0;
    torcs::Place& place = car->of_centre.place;
    ToWorld(car->position, &place.x, &place.y);
    place.z = height(&car->position) + kAboveGround;
    place.yaw = std::remainder(Heading(car->position), 2 * M_PI);
    if (place.yaw < 0) place.yaw += 2 * M_PI;
    car->of_car.place = place;
    car->brake = 1;
    race->physics.configure(car, race);
  }
  for (int i = 0; i < kSettling; ++i) {
    race->physics.update(situation, kPhysicsSeconds, -1);
  }
}

// The gear in which the engine pulls well at the speed that the car has.
int Gear(const torcs::Car& car) {
  const int gear = std::max(1, car.gear);
  const float most = 0.95f * car.engine_limit * car.wheel_radius;  // m/s * ratio
  const float* ratios = car.gear_ratios + car.gear_offset;
  if (gear < car.gears - 1 && car.of_car.velocity.x > most / ratios[gear]) {
    return gear + 1;
  }
  if (gear > 1 && car.of_car.velocity.x + 4 < most / ratios[gear - 1]) {
    return gear - 1;
  }
  return gear;
}

void Tell(const torcs::Car& car, const torcs::Situation& situation) {
  shared->time = situation.time;
  shared->speed = car.of_car.velocity.x;
  shared->angle = std::remainder(
      Heading(car.position) - car.of_centre.place.yaw, 2 * M_PI);
  shared->to_middle = car.position.to_middle;
  shared->track_width = car.position.segment->width;
  shared->distance = car.distance;
  shared->x = car.of_centre.place.x;
  shared->y = car.of_centre.place.y;
  shared->damage = car.damage;
  shared->gear = car.gear;
  shared->engine_speed = car.engine_speed;
  // TORCS sorts its list of cars by their places in the race.
  for (int i = 0; i < situation.cars_count; ++i) {
    const torcs::Car& other = *situation.cars[i];
    if (other.index < kMostCars) shared->others[other.index] = other.distance;
  }
}

void Start(torcs::Car* car, torcs::Situation* situation) {
  race = *static_cast<torcs::Race**>(Find("ReInfo"));
  if (strcmp(car->name, kName) || race->situation != situation ||
      race->track != track || !(track->length > 0) ||
      situation->cars_count != shared->cars) {
    fprintf(stderr, "a3c_jax: %d of %d cars\n", situation->cars_count,
            shared->cars);
    Fail("this TORCS is not what the plugin was written for");
  }
  TellTrack();
  LoadGraphics(situation);
  car->driver_type = torcs::kHuman;
  fflush(stdout);
  // It says something in every lap.
  if (!freopen("/dev/null", "w", stdout)) Fail("no /dev/null");
  ready = true;
}

void Drive(int, torcs::Car* car, torcs::Situation* situation) {
  if (situation->time < 0) {  // The countdown, in which nothing moves.
    situation->time = -kPhysicsSeconds;
    return;
  }
  if (!ready) {
    Start(car, situation);
    Place(car, situation);
    return;
  }
  if (!ticks_left) {
    Draw(situation);
    Tell(*car, *situation);
    char byte = '.';
    if (write(talk, &byte, 1) != 1 || read(talk, &byte, 1) != 1) _exit(0);
    if (byte == 'r') {
      Place(car, situation);
      return;
    }
    ticks_left = shared->repeat;
  }
  --ticks_left;
  memset(&car->steer, 0, torcs::kControls);
  car->steer = shared->steer;
  car->accelerate = shared->accelerate;
  car->brake = shared->brake;
  car->wanted_gear = Gear(*car);
}

void NewTrack(int, torcs::Track* its_track, void*, void** handle,
              torcs::Situation*) {
  track = its_track;
  *handle = nullptr;
}

void NewRace(int, torcs::Car*, torcs::Situation*) {}

// Before TORCS writes down who has won.
void EndRace(int, torcs::Car*, torcs::Situation*) { Fail("the race is over"); }

int Pit(int, torcs::Car*, torcs::Situation*) { return 0; }

void Shutdown(int) {}

int StartRobot(int index, void* interface) {
  *static_cast<torcs::Robot*>(interface) = {NewTrack, NewRace, EndRace, Drive,
                                            Pit,      Shutdown, index};
  return 0;
}

}  // namespace

// What TORCS looks for in a robot module: a function with the module's name.
extern "C" int a3c_jax(torcs::Module* modules) {
  memset(modules, 0, torcs::kModules * sizeof *modules);
  modules[0] = {strdup(kName), strdup("driven by Python"), StartRobot, 0, 1, 0,
                0};
  return 0;
}

// In place of freeglut's, which need a window.
extern "C" int glutGet(unsigned) { return 8; }  // Bits of the alpha channel.
extern "C" int glutExtensionSupported(const char*) { return 0; }
