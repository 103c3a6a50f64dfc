// Where TORCS 1.3.7 keeps what the plugin reads and writes, on 64-bit Linux.
//
// Debian ships no headers of TORCS. Only what is needed is named; the rest is
// space. Units are metres, seconds and radians unless another one is given.
//
// SPDX-License-Identifier: GPL-2.0-or-later
#ifndef A3C_JAX_TORCS_1_3_7_H_
#define A3C_JAX_TORCS_1_3_7_H_

#include <cstddef>

namespace torcs {

enum SegmentType { kRight = 1, kLeft = 2, kStraight = 3 };
constexpr int kWholeWidth = 0;  // What positions across the track refer to.
constexpr int kFromRight = 0;   // Which of those positions counts.
constexpr int kHuman = 1;       // Whom the rules do not eliminate.
constexpr int kModules = 10;    // Places for robots in one plugin.

struct Segment {
  char space0[12];
  int type;
  char space1[8];
  float length;
  float width;
  char space2[8];
  float start;   // Along the track, of this segment.
  float radius;  // Of the middle; without meaning on a straight.
  char space3[72];
  float angle;  // Of the right side at the start of the segment.
  char space4[108];
  Segment* next;
  Segment* previous;
};
static_assert(offsetof(Segment, length) == 24);
static_assert(offsetof(Segment, start) == 40);
static_assert(offsetof(Segment, angle) == 120);
static_assert(offsetof(Segment, next) == 232);

struct Position {
  Segment* segment;
  int type;
  float to_start;  // Radians in a curve.
  float to_right;
  float to_middle;  // Positive on the left.
  float to_left;
};
static_assert(sizeof(Position) == 32);

struct Track {
  char space0[56];
  float length;
  char space1[84];
  Segment* segment;  // The last one.
};
static_assert(offsetof(Track, segment) == 144);

struct Place {
  float x, y, z, roll, pitch, yaw;
};

struct Motion {
  Place place, velocity, acceleration;
};
static_assert(sizeof(Motion) == 72);

struct Car {
  int index;
  char name[32];
  char space0[104];
  int driver_type;
  char space1[128];
  float wheel_radius;  // Of a rear wheel.
  char space2[52];
  Motion of_car;     // Velocities along its own axes.
  Motion of_centre;  // Likewise along those of the world.
  char space3[72];
  Position position;
  int state;
  char space4[208];
  float distance;  // From the start line, along the middle of the track.
  char space5[552];
  int gear;
  char space6[4];
  float engine_speed;  // rad/s
  float engine_limit;
  char space7[20];
  float gear_ratios[10];
  int gears;        // The highest, and one more.
  int gear_offset;  // Of neutral among them.
  char space8[68];
  int damage;
  char space9[36];
  float steer;  // -1 to 1, left is positive
  float accelerate;
  float brake;
  float clutch;
  int wanted_gear;
  char space10[1116];
};
static_assert(offsetof(Car, driver_type) == 140);
static_assert(offsetof(Car, wheel_radius) == 272);
static_assert(offsetof(Car, of_car) == 328);
static_assert(offsetof(Car, position) == 544);
static_assert(offsetof(Car, state) == 576);
static_assert(offsetof(Car, distance) == 788);
static_assert(offsetof(Car, gear) == 1344);
static_assert(offsetof(Car, engine_speed) == 1352);
static_assert(offsetof(Car, gear_ratios) == 1380);
static_assert(offsetof(Car, gears) == 1420);
static_assert(offsetof(Car, damage) == 1496);
static_assert(offsetof(Car, steer) == 1536);
static_assert(sizeof(Car) == 2672);
constexpr size_t kControls = 172;  // Bytes, from Car::steer on.

struct Situation {
  int cars_count;
  char space0[36];
  double time;  // s
  char space1[8];
  Car** cars;
};
static_assert(offsetof(Situation, time) == 40);
static_assert(sizeof(Situation) == 64);

struct Physics {
  void (*start)(int cars, Track*, float fuel_factor, float damage_factor);
  void (*configure)(Car*, struct Race*);
  void* reconfigure;
  void (*update)(Situation*, double seconds, int telemetry);
  void (*stop)();
};

struct Race {
  void* cars;
  Situation* situation;
  Track* track;
  char space0[176];
  Physics physics;
  char space1[140];
  float fuel_factor;
  float damage_factor;
};
static_assert(offsetof(Race, physics) == 200);
static_assert(offsetof(Race, fuel_factor) == 380);

struct Graphics {
  int (*load_track)(Track*);
  int (*open)(int x, int y, int width, int height, int part, void* screen);
  int (*load_cars)(Situation*);
  int (*draw)(Situation*);
  void* space[3];
};

struct Robot {
  void (*new_track)(int, Track*, void*, void** handle, Situation*);
  void (*new_race)(int, Car*, Situation*);
  void (*end_race)(int, Car*, Situation*);
  void (*drive)(int, Car*, Situation*);
  int (*pit)(int, Car*, Situation*);
  void (*shutdown)(int);
  int index;
};

struct Module {
  const char* name;
  const char* description;
  int (*start)(int index, void* interface);
  unsigned kind;  // 0 for robots and for graphics.
  int index;
  int priority;
  int magic;
};
static_assert(sizeof(Module) == 40);

struct Modules {
  Module modules[kModules];
};

}  // namespace torcs

#endif  // A3C_JAX_TORCS_1_3_7_H_
